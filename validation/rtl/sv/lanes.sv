// Zero-skipping lanes. A lane takes the rows of a tile that are its own, and of a row HEIGHT kept weights a cycle into
// one adder tree; kept positions come from the row's bitmap. All lanes work on one token, and the slowest ends it. The
// first `dense_lanes` lanes are the denser engine: they take the tile's dense columns, zeros and all; the others take
// what is kept of the rest.
//
// Descriptor: [15:8] rows, [23:16] tokens, [31:24] dense lanes, [39:32] dense columns.
// Spaces: 0 mask words (row * WORDS + word), 1 kept values by row and column, 2 values of the dense columns, 3 inputs
// (token * COLS / 8 + beat), 4 dense columns as a mask. 1 to 3 are bytes, 8 a beat; 4 comes before 0.
`include "ports.svh"
module lanes #(
    parameter int unsigned LANES = 8,
    parameter int unsigned HEIGHT = 4,
    parameter int unsigned ROWS = 32,         // most of a tile
    parameter int unsigned WORDS = 2,         // mask words of a row
    parameter int unsigned TOKENS = 4,
    parameter int unsigned WORD_DECODE = 0    // 1: a lane sees one mask word at a time
) (
    `PORTS
);
  localparam int unsigned COLS = 64 * WORDS;
  localparam int unsigned ENTRIES = ROWS * COLS;
  localparam int unsigned LEVELS = HEIGHT > 1 ? $clog2(HEIGHT) : 0;
  localparam int unsigned WIDE = 1 << LEVELS;  // leaves of the tree
  localparam int unsigned STAGES = LEVELS + 1;  // from products to the tree's root
  localparam int unsigned SUMS = TOKENS * ROWS;

  // Input memories, a half after the other.
  logic [63:0] mask_words[2*ROWS*WORDS];
  logic [15:0] row_start[2*(ROWS+1)];  // place of a row's first kept value
  logic [63:0] sparse_values[ENTRIES/4];
  logic [63:0] dense_values[ENTRIES/4];
  logic [63:0] inputs[2*TOKENS*COLS/8];
  logic [COLS-1:0] dense_columns[2];
  logic signed [31:0] sums[4*SUMS];  // half, engine, token, row

  logic load_write, load_half, start, running, in_half, out_half, store_half, done, drained;
  logic [63:0] descriptor;
  port port_i (.*);

  logic [31:0] rows, tokens, dense_lanes, dense_count;
  logic unused;
  assign unused = &{1'b0, descriptor[63:40], descriptor[7:2]};
  assign rows = 32'(descriptor[15:8]);
  assign tokens = 32'(descriptor[23:16]);
  assign dense_lanes = 32'(descriptor[31:24]);
  assign dense_count = 32'(descriptor[39:32]);

  function automatic logic [15:0] ones(input logic [63:0] word);
    ones = 0;
    for (int i = 0; i < 64; i++) ones = ones + 16'(word[i]);
  endfunction

  function automatic logic signed [7:0] byte_of(input logic [63:0] beat, input logic [2:0] i);
    byte_of = beat[8*i+:8];
  endfunction

  // Loading. Mask words come in order, so that places of values are added up as they pass.
  logic [15:0] kept_before;
  logic [31:0] load_row, load_word;
  logic [63:0] load_sparse;
  assign load_row = 32'(load_addr) / WORDS;
  assign load_word = 32'(load_addr) % WORDS;
  assign load_sparse = load_data & ~dense_columns[load_half][64*load_word+:64];
  always_ff @(posedge clk) begin
    if (rst) begin
      kept_before <= 0;
      dense_columns[0] <= '0;
      dense_columns[1] <= '0;
    end else if (load_write) begin
      if (load_space == 0) begin
        mask_words[32'(load_half)*ROWS*WORDS+32'(load_addr)] <= load_sparse;
        if (load_word == 0) row_start[32'(load_half)*(ROWS+1)+load_row] <= kept_before;
        if (load_word == WORDS - 1) row_start[32'(load_half)*(ROWS+1)+load_row+1] <= kept_before + ones(load_sparse);
        kept_before <= kept_before + ones(load_sparse);
      end
      if (load_space == 1) sparse_values[32'(load_half)*ENTRIES/8+32'(load_addr)] <= load_data;
      if (load_space == 2) dense_values[32'(load_half)*ENTRIES/8+32'(load_addr)] <= load_data;
      if (load_space == 3) inputs[32'(load_half)*TOKENS*COLS/8+32'(load_addr)] <= load_data;
      if (load_space == 4) dense_columns[load_half][64*load_word+:64] <= load_data;
      if (load_last) kept_before <= 0;
    end
  end

  // What every lane does at this edge.
  logic [31:0] token;
  logic [31:0] turn[LANES];  // row of the lane's own, counted
  logic fresh[LANES];        // the row at `turn` has not been begun
  logic [COLS-1:0] remaining[LANES];
  logic [15:0] taken[LANES];  // values of the row so far

  logic at_work[LANES], ends[LANES];
  logic [31:0] at_turn[LANES], at_row[LANES], count[LANES];
  logic [COLS-1:0] left[LANES];
  logic [31:0] column[LANES*HEIGHT];
  logic [31:0] place[LANES];
  logic token_ends, any_work;

  always_comb begin
    token_ends = 1;
    any_work = 0;
    ev_macs = 0;
    ev_active = '0;
    for (int unsigned l = 0; l < LANES; l++) begin
      automatic logic is_dense = l < dense_lanes;
      automatic logic [31:0] first = is_dense ? l : l - dense_lanes;
      automatic logic [31:0] step = is_dense ? dense_lanes : LANES - dense_lanes;
      automatic logic more = 0;
      automatic logic [COLS-1:0] bits = '0;
      automatic logic seen = 0;
      at_work[l] = 0;
      at_turn[l] = 0;
      at_row[l] = 0;
      for (int unsigned k = 0; k < ROWS; k++) begin  // the first row of its own, from `turn` on, that has work; and another?
        automatic logic [31:0] row = first + k * step;
        if (running && row < rows && k >= turn[l] && !(at_work[l] && more)) begin
          if (is_dense ? dense_count != 0
              : row_start[32'(in_half)*(ROWS+1)+row] != row_start[32'(in_half)*(ROWS+1)+row+1]) begin
            more = at_work[l];
            if (!at_work[l]) begin
              at_work[l] = 1;
              at_turn[l] = k;
              at_row[l] = row;
            end
          end
        end
      end
      for (int unsigned w = 0; w < WORDS; w++)
        bits[64*w+:64] = is_dense ? dense_columns[in_half][64*w+:64]
            : mask_words[32'(in_half)*ROWS*WORDS+at_row[l]*WORDS+w];
      if (!fresh[l]) bits = remaining[l];
      left[l] = bits;
      count[l] = 0;
      for (int unsigned h = 0; h < HEIGHT; h++) column[l*HEIGHT+h] = 0;
      for (int unsigned w = 0; w < WORDS; w++) begin
        if (!(WORD_DECODE != 0 && seen))
          for (int unsigned c = 64 * w; c < 64 * w + 64; c++)
            if (bits[c] && count[l] < HEIGHT) begin
              column[l*HEIGHT+count[l]] = c;
              count[l] = count[l] + 1;
              left[l][c] = 0;
            end
        if (bits[64*w+:64] != 0) seen = 1;
      end
      place[l] = (is_dense ? at_row[l] * dense_count : 32'(row_start[32'(in_half)*(ROWS+1)+at_row[l]]))
          + (fresh[l] ? 0 : 32'(taken[l]));
      ends[l] = !at_work[l] || (left[l] == 0 && !more);
      token_ends = token_ends && ends[l];
      any_work = any_work || at_work[l];
      if (at_work[l]) ev_macs = ev_macs + 16'(count[l]);
      if (at_work[l] && l < 64) ev_active[l] = 1;
    end
  end

  assign done = running && (!any_work || (token_ends && token == tokens - 1));
  assign ev_start = start;
  assign ev_done = done;
  assign ev_in = any_work;

  always_ff @(posedge clk) begin
    if (rst) token <= 0;
    else if (done) token <= 0;
    else if (running && token_ends) token <= token + 1;
    for (int unsigned l = 0; l < LANES; l++) begin
      if (rst || !running || token_ends) begin
        turn[l] <= 0;
        fresh[l] <= 1;
      end else if (at_work[l]) begin
        turn[l] <= left[l] == 0 ? at_turn[l] + 1 : at_turn[l];
        fresh[l] <= left[l] == 0;
        remaining[l] <= left[l];
        taken[l] <= (fresh[l] ? 16'd0 : taken[l]) + 16'(count[l]);
      end
    end
  end

  // Operands, products, the tree, the sums: a register each.
  logic signed [7:0] weight[LANES*HEIGHT], value[LANES*HEIGHT];
  logic signed [31:0] tree[LANES*STAGES*WIDE];  // stage 0: products
  logic [STAGES:0] valid[LANES];
  logic [31:0] to[LANES*(STAGES+1)];  // where the sum goes
  logic [STAGES:0] ending;            // behind the last operands of an output group

  always_ff @(posedge clk) begin
    for (int unsigned l = 0; l < LANES; l++) begin
      for (int unsigned h = 0; h < HEIGHT; h++) begin
        automatic logic [31:0] at = 32'(in_half) * ENTRIES + place[l] + h;
        automatic logic [31:0] from = (32'(in_half) * TOKENS + token) * COLS + column[l*HEIGHT+h];
        weight[l*HEIGHT+h] <= !(at_work[l] && h < count[l]) ? 8'sd0
            : byte_of(l < dense_lanes ? dense_values[at/8] : sparse_values[at/8], at[2:0]);
        value[l*HEIGHT+h] <= byte_of(inputs[from/8], from[2:0]);
      end
      for (int unsigned h = 0; h < WIDE; h++)
        tree[l*STAGES*WIDE+h] <= h < HEIGHT ? 32'(weight[l*HEIGHT+h]) * 32'(value[l*HEIGHT+h]) : 32'sd0;
      for (int unsigned s = 1; s < STAGES; s++)
        for (int unsigned h = 0; h < (WIDE >> s); h++)
          tree[(l*STAGES+s)*WIDE+h] <= tree[(l*STAGES+s-1)*WIDE+2*h] + tree[(l*STAGES+s-1)*WIDE+2*h+1];
      valid[l] <= rst ? '0 : {valid[l][STAGES-1:0], at_work[l]};
      to[l*(STAGES+1)] <= ((32'(out_half) * 2 + 32'(l < dense_lanes)) * TOKENS + token) * ROWS + at_row[l];
      for (int unsigned s = 1; s <= STAGES; s++) to[l*(STAGES+1)+s] <= to[l*(STAGES+1)+s-1];
      if (valid[l][STAGES])
        sums[to[l*(STAGES+1)+STAGES]] <= sums[to[l*(STAGES+1)+STAGES]] + tree[(l*STAGES+STAGES-1)*WIDE];
    end
    ending <= rst ? '0 : {ending[STAGES-1:0], done && descriptor[1]};
    if (start && descriptor[0])
      for (int unsigned i = 0; i < 2 * SUMS; i++) sums[32'(out_half)*2*SUMS+i] <= 0;
  end

  always_comb begin
    ev_out = 0;
    for (int unsigned l = 0; l < LANES; l++) ev_out = ev_out || valid[l][STAGES];
  end
  assign drained = ending[STAGES];
  assign ev_drained = drained;

  // A beat of two sums, those of a token side by side.
  function automatic logic signed [31:0] result(input logic [31:0] i);
    result = i < SUMS ? sums[32'(store_half)*2*SUMS+i] + sums[(32'(store_half)*2+1)*SUMS+i] : 32'sd0;
  endfunction
  assign store_data = {result(32'(store_addr) * 2 + 1), result(32'(store_addr) * 2)};
endmodule
