// Processing elements (PEs) with queues. Row i is on PE i mod PES, which holds its part of a column as entries: a weight
// and the number of zeros in front of it. The central unit finds the next nonzero input and gives it to all queues at
// once, a cycle each, while none is full; a PE works on the head of its queue, an entry a cycle, and takes a cycle for a
// column without any. An input leaves its queue, and makes room, at the edge of its last entry.
//
// Descriptor: [15:8] tokens, [31:16] inputs. Spaces: 0 starts of columns (PE * (COLS + 1) + column), 1 entries (PE *
// ENTRIES + entry): weight [7:0], zeros [11:8]; 2 mask of nonzero inputs (token * COLS / 64 + word), 3 inputs (token *
// COLS / 8 + beat).
`include "ports.svh"
module eie #(
    parameter int unsigned PES = 4,
    parameter int unsigned DEPTH = 2,     // of a queue, the input worked on included
    parameter int unsigned COLS = 128,    // a multiple of 64
    parameter int unsigned ROWS = 16,     // of a PE
    parameter int unsigned ENTRIES = 2048,  // of a PE
    parameter int unsigned TOKENS = 3
) (
    `PORTS
);
  localparam int unsigned SUMS = TOKENS * ROWS * PES;

  logic [63:0] starts[2*PES*(COLS+1)];
  logic [63:0] entries[2*PES*ENTRIES];
  logic [63:0] input_masks[2*TOKENS*COLS/64];
  logic [63:0] inputs[2*TOKENS*COLS/8];
  logic signed [31:0] sums[2*SUMS];

  logic load_write, load_half, start, running, in_half, out_half, store_half, done, drained;
  logic [63:0] descriptor;
  logic unused;
  assign unused = &{1'b0, descriptor[63:32], descriptor[7:2], load_space[3:2]};
  port port_i (.*);

  always_ff @(posedge clk)
    if (load_write) begin
      if (load_space == 0) starts[32'(load_half)*PES*(COLS+1)+32'(load_addr)] <= load_data;
      if (load_space == 1) entries[32'(load_half)*PES*ENTRIES+32'(load_addr)] <= load_data;
      if (load_space == 2) input_masks[32'(load_half)*TOKENS*COLS/64+32'(load_addr)] <= load_data;
      if (load_space == 3) inputs[32'(load_half)*TOKENS*COLS/8+32'(load_addr)] <= load_data;
    end

  logic [31:0] tokens, count;
  assign tokens = 32'(descriptor[15:8]);
  assign count = 32'(descriptor[31:16]);

  // Queues: column and value of an input, the head at 0.
  logic [31:0] column[PES*DEPTH];
  logic [7:0] value[PES*DEPTH];
  logic [31:0] filled[PES];
  logic [31:0] entry[PES];  // of the head's column, counted from its start
  logic [31:0] row[PES];    // behind the entry before

  logic [31:0] token, next;  // next: columns before it have been sent
  logic [PES-1:0] works, pops, real_weight;
  logic [31:0] first[PES], size[PES], at_row[PES];
  logic [63:0] now_entry[PES];
  logic room, found, sends, last_sent, all_pop;
  logic [31:0] found_at;

  always_comb begin
    room = 1;
    all_pop = 1;
    ev_macs = 0;
    ev_active = '0;
    for (int unsigned p = 0; p < PES; p++) begin
      automatic logic [31:0] place = (32'(in_half) * PES + p) * (COLS + 1) + column[p*DEPTH];
      works[p] = filled[p] != 0;
      first[p] = starts[place][31:0];
      size[p] = starts[place+1][31:0] - first[p];
      now_entry[p] = entries[(32'(in_half)*PES+p)*ENTRIES+first[p]+entry[p]];
      at_row[p] = row[p] + 32'(now_entry[p][11:8]);
      pops[p] = works[p] && entry[p] + 1 >= size[p];
      real_weight[p] = works[p] && size[p] != 0 && now_entry[p][7:0] != 0;
      room = room && (filled[p] < DEPTH || pops[p]);
      all_pop = all_pop && (filled[p] == 0 || (filled[p] == 1 && pops[p]));
      ev_macs = ev_macs + 16'(real_weight[p]);
      if (p < 64) ev_active[p] = works[p];
    end
    found = 0;
    found_at = 0;
    for (int unsigned c = 0; c < COLS; c++)
      if (!found && c >= next && c < count && input_masks[(32'(in_half)*TOKENS+token)*COLS/64+c/64][c%64]) begin
        found = 1;
        found_at = c;
      end
    sends = running && found && room;
    last_sent = running && !found;
  end

  assign done = last_sent && all_pop && token == tokens - 1;
  assign ev_start = start;
  assign ev_done = done;
  assign ev_in = sends;

  always_ff @(posedge clk) begin
    if (rst || done) begin
      token <= 0;
      next <= 0;
    end else if (last_sent && all_pop) begin
      token <= token + 1;
      next <= 0;
    end else if (sends) next <= found_at + 1;
    for (int unsigned p = 0; p < PES; p++) begin
      automatic logic [31:0] left = filled[p] - 32'(pops[p]);
      if (rst) filled[p] <= 0;
      else filled[p] <= left + 32'(sends);
      for (int unsigned d = 0; d < DEPTH; d++) begin
        if (sends && d == left) begin
          column[p*DEPTH+d] <= found_at;
          value[p*DEPTH+d] <= inputs[((32'(in_half)*TOKENS+token)*COLS+found_at)/8][8*(found_at%8)+:8];
        end else if (pops[p] && d + 1 < DEPTH) begin
          column[p*DEPTH+d] <= column[p*DEPTH+(d+1)%DEPTH];
          value[p*DEPTH+d] <= value[p*DEPTH+(d+1)%DEPTH];
        end
      end
      entry[p] <= rst || pops[p] ? 0 : entry[p] + 32'(works[p]);
      row[p] <= rst || pops[p] ? 0 : works[p] ? at_row[p] + 1 : row[p];
    end
  end

  logic signed [7:0] weight[PES], operand[PES];
  logic [31:0] to[PES];
  logic [PES-1:0] valid;
  logic ending;
  always_ff @(posedge clk) begin
    if (start && descriptor[0])
      for (int unsigned i = 0; i < SUMS; i++) sums[32'(out_half)*SUMS+i] <= 0;
    for (int unsigned p = 0; p < PES; p++) begin
      weight[p] <= now_entry[p][7:0];
      operand[p] <= value[p*DEPTH];
      to[p] <= 32'(out_half) * SUMS + (token * ROWS + at_row[p]) * PES + p;
      valid[p] <= !rst && real_weight[p];
      if (valid[p]) sums[to[p]] <= sums[to[p]] + 32'(weight[p]) * 32'(operand[p]);
    end
    ending <= !rst && done && descriptor[1];
  end
  assign ev_out = valid != 0;
  assign drained = ending;
  assign ev_drained = drained;

  function automatic logic signed [31:0] result(input logic [31:0] i);
    result = i < SUMS ? sums[32'(store_half)*SUMS+i] : 32'sd0;
  endfunction
  assign store_data = {result(32'(store_addr) * 2 + 1), result(32'(store_addr) * 2)};
endmodule
