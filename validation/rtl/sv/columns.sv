// Bit-serial lanes. A lane has GROUP weights of an output and adds, a cycle, the inputs of those whose bit at one
// position is set, shifted there, for TOKENS tokens at once. SKIP = 1: weights are sign and magnitude, and a lane goes
// from one position that any of its weights uses to the next; a step, one group of every lane, ends when the slowest
// lane has no position left, and takes a cycle at least. SKIP = 0: weights are two's complement of BITS bits, and every
// position takes its cycle.
//
// Descriptor: [15:8] groups (steps). Spaces: 0 weights (row * COLS / 8 + beat), 1 inputs (token * COLS / 8 + beat), bytes.
`include "ports.svh"
module columns #(
    parameter int unsigned LANES = 4,
    parameter int unsigned GROUP = 8,
    parameter int unsigned COLS = 64,  // a multiple of 8 and of GROUP
    parameter int unsigned TOKENS = 3,
    parameter int unsigned SKIP = 1,
    parameter int unsigned BITS = 8
) (
    `PORTS
);
  localparam int unsigned POSITIONS = SKIP != 0 ? 7 : BITS;
  localparam int unsigned SUMS = TOKENS * LANES;
  localparam int unsigned WEIGHT_PLACE = $clog2(2 * LANES * COLS);
  localparam int unsigned SUM_PLACE = $clog2(2 * SUMS);
  localparam int unsigned INPUT_PLACE = $clog2(2 * TOKENS * COLS);

  logic [63:0] weights[2*LANES*COLS/8];
  logic [63:0] inputs[2*TOKENS*COLS/8];
  logic signed [31:0] sums[2*SUMS];

  logic load_write, load_half, start, running, in_half, out_half, store_half, done, drained;
  logic [63:0] descriptor;
  logic unused;
  assign unused = &{1'b0, descriptor[63:16], descriptor[7:2], load_space[3:1]};
  port port_i (.*);

  always_ff @(posedge clk)
    if (load_write) begin
      if (load_space[0]) inputs[32'(load_half)*TOKENS*COLS/8+32'(load_addr)] <= load_data;
      else weights[32'(load_half)*LANES*COLS/8+32'(load_addr)] <= load_data;
    end

  logic [31:0] step, steps;
  assign steps = 32'(descriptor[15:8]);

  logic [POSITIONS-1:0] used[LANES], left[LANES], remaining[LANES];
  logic [LANES-1:0] works;
  logic [31:0] position[LANES];
  logic [7:0] group[LANES*GROUP];
  logic fresh, step_ends;

  always_comb begin
    step_ends = 1;
    ev_macs = 0;
    ev_active = '0;
    for (int unsigned l = 0; l < LANES; l++) begin
      automatic logic [POSITIONS-1:0] any = '0;
      for (int unsigned g = 0; g < GROUP; g++) begin
        automatic logic [WEIGHT_PLACE-1:0] at =
            WEIGHT_PLACE'((32'(in_half) * LANES + l) * COLS + step * GROUP + g);
        group[l*GROUP+g] = weights[at/8][8*(at%8)+:8];
        any = any | group[l*GROUP+g][POSITIONS-1:0];
      end
      used[l] = !fresh ? remaining[l] : SKIP != 0 ? any : '1;
      works[l] = running && used[l] != 0;
      left[l] = used[l] & (used[l] - 1'b1);
      position[l] = 0;
      for (int unsigned b = POSITIONS; b > 0; b--) if (used[l][b-1]) position[l] = b - 1;
      step_ends = step_ends && left[l] == 0;
      ev_macs = ev_macs + 16'(works[l]);
      if (l < 64) ev_active[l] = works[l];
    end
  end

  assign done = running && step_ends && step == steps - 1;
  assign ev_start = start;
  assign ev_done = done;
  assign ev_in = running;
  always_ff @(posedge clk) begin
    if (rst || done) step <= 0;
    else if (running && step_ends) step <= step + 1;
    fresh <= rst || !running || step_ends;
    for (int unsigned l = 0; l < LANES; l++) remaining[l] <= left[l];
  end

  // The addends of a lane and token, summed; then the sums.
  logic signed [31:0] partial[LANES*TOKENS];
  logic [LANES-1:0] valid;
  logic half, ending;
  always_ff @(posedge clk) begin
    if (start && descriptor[0])
      for (int unsigned i = 0; i < SUMS; i++) sums[32'(out_half)*SUMS+i] <= 0;
    for (int unsigned l = 0; l < LANES; l++)
      for (int unsigned t = 0; t < TOKENS; t++) begin
        automatic logic signed [31:0] total = 0;
        automatic logic [SUM_PLACE-1:0] to = SUM_PLACE'((32'(half) * TOKENS + t) * LANES + l);
        for (int unsigned g = 0; g < GROUP; g++) begin
          automatic logic [INPUT_PLACE-1:0] at =
              INPUT_PLACE'((32'(in_half) * TOKENS + t) * COLS + step * GROUP + g);
          automatic logic signed [7:0] x = inputs[at/8][8*(at%8)+:8];
          automatic logic minus = SKIP != 0 ? group[l*GROUP+g][7] : position[l] == BITS - 1;
          if (group[l*GROUP+g][position[l][2:0]]) total = minus ? total - 32'(x) : total + 32'(x);
        end
        partial[l*TOKENS+t] <= total <<< position[l];
        if (valid[l]) sums[to] <= sums[to] + partial[l*TOKENS+t];
      end
    valid <= rst ? '0 : works;
    half <= out_half;
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
