// A grid of ROWS x COLS cells whose sums stay: tokens enter from the left, a row each, weights from the top, a column
// each, both skewed by a register a row or column. A cell hands its finished sum to a chain that runs up its column
// while the next fold begins; the chain is empty in time where inputs + COLS > ROWS.
//
// Descriptor: [23:8] inputs (steps). Spaces: 0 tokens (step * beats of ROWS + beat), 1 weights (step * beats of COLS +
// beat), bytes, 8 a beat.
`include "ports.svh"
module systolic_os #(
    parameter int unsigned ROWS = 4,
    parameter int unsigned COLS = 4,
    parameter int unsigned STEPS = 64  // most of a tile
) (
    `PORTS
);
  localparam int unsigned CELLS = ROWS * COLS;
  localparam int unsigned ROW_BEATS = (ROWS + 7) / 8;
  localparam int unsigned COL_BEATS = (COLS + 7) / 8;

  logic [63:0] left[2*STEPS*ROW_BEATS];
  logic [63:0] top[2*STEPS*COL_BEATS];
  logic signed [31:0] sums[2*CELLS];

  logic load_write, load_half, start, running, in_half, out_half, store_half, done, drained;
  logic [63:0] descriptor;
  logic unused;
  assign unused = &{1'b0, descriptor[63:24], descriptor[7:2], descriptor[0], load_space[3:1]};
  port port_i (.*);

  always_ff @(posedge clk)
    if (load_write) begin
      if (load_space[0]) top[32'(load_half)*STEPS*COL_BEATS+32'(load_addr)] <= load_data;
      else left[32'(load_half)*STEPS*ROW_BEATS+32'(load_addr)] <= load_data;
    end

  logic [31:0] now, count;
  logic feeding;
  assign count = 32'(descriptor[23:8]);
  assign feeding = running && now < count;
  assign done = running && now == count + ROWS + COLS - 3;
  always_ff @(posedge clk) now <= rst || !running || done ? 0 : now + 1;

  // What goes with an operand: valid, first step and last step of its fold, and the output half.
  localparam int unsigned TAG = 4;
  logic [TAG+7:0] across[CELLS], row_skew[ROWS*ROWS], row_in[ROWS];
  logic [7:0] down[CELLS], col_skew[COLS*COLS], col_in[COLS];
  logic signed [31:0] sum[CELLS];
  logic [TAG-1:0] tag;
  assign tag = {out_half, now == count - 1, now == 0, feeding && !rst};

  function automatic logic [TAG+7:0] from_left(input logic [31:0] r);
    from_left = {left[(32'(in_half)*STEPS+now)*ROW_BEATS+r/8][8*(r%8)+:8], tag};
  endfunction
  function automatic logic [7:0] from_top(input logic [31:0] c);
    from_top = top[(32'(in_half)*STEPS+now)*COL_BEATS+c/8][8*(c%8)+:8];
  endfunction

  always_comb begin
    for (int unsigned r = 0; r < ROWS; r++) row_in[r] = r == 0 ? from_left(0) : row_skew[r*ROWS+r-1];
    for (int unsigned c = 0; c < COLS; c++) col_in[c] = c == 0 ? from_top(0) : col_skew[c*COLS+c-1];
  end

  // The chain up a column: valid, half, row, sum.
  logic [CELLS-1:0] up_valid, up_half;
  logic [31:0] up_row[CELLS];
  logic signed [31:0] up[CELLS];
  logic [ROWS-1:0] ending;

  always_comb begin
    ev_macs = 0;
    ev_active = '0;
    ev_out = 0;
    for (int unsigned r = 0; r < ROWS; r++)
      for (int unsigned c = 0; c < COLS; c++) begin
        automatic logic at_work = c == 0 ? row_in[r][0] : across[r*COLS+c-1][0];
        ev_macs = ev_macs + 16'(at_work);
        if (at_work && r < 64) ev_active[r] = 1;
      end
    for (int unsigned c = 0; c < COLS; c++) ev_out = ev_out || up_valid[c];
  end

  always_ff @(posedge clk) begin
    for (int unsigned r = 0; r < ROWS; r++)
      for (int unsigned s = 0; s < r; s++)
        row_skew[r*ROWS+s] <= rst ? '0 : s == 0 ? from_left(r) : row_skew[r*ROWS+s-1];
    for (int unsigned c = 0; c < COLS; c++)
      for (int unsigned s = 0; s < c; s++) col_skew[c*COLS+s] <= s == 0 ? from_top(c) : col_skew[c*COLS+s-1];
    for (int unsigned r = 0; r < ROWS; r++)
      for (int unsigned c = 0; c < COLS; c++) begin
        automatic logic [31:0] at = r * COLS + c;
        automatic logic [TAG+7:0] a = c == 0 ? row_in[r] : across[at-1];
        automatic logic [7:0] b = r == 0 ? col_in[c] : down[at-COLS];
        automatic logic signed [31:0] next = 32'(signed'(a[TAG+:8])) * 32'(signed'(b)) + (a[1] ? 32'sd0 : sum[at]);
        across[at] <= rst ? '0 : a;
        down[at] <= b;
        if (a[0]) sum[at] <= next;
        up_valid[at] <= !rst && ((a[0] && a[2]) || (r < ROWS - 1 && up_valid[(at+COLS)%CELLS]));
        up_half[at] <= a[0] && a[2] ? a[3] : up_half[(at+COLS)%CELLS];
        up_row[at] <= a[0] && a[2] ? r : up_row[(at+COLS)%CELLS];
        up[at] <= a[0] && a[2] ? next : up[(at+COLS)%CELLS];
      end
    for (int unsigned c = 0; c < COLS; c++)
      if (up_valid[c]) sums[(up_half[c]?CELLS : 0)+up_row[c]*COLS+c] <= up[c];
    ending <= rst ? '0 : {ending[ROWS-2:0], done && descriptor[1]};
  end

  assign ev_in = feeding;
  assign ev_start = start;
  assign ev_done = done;
  assign drained = ending[ROWS-1];
  assign ev_drained = drained;

  function automatic logic signed [31:0] result(input logic [31:0] i);
    result = i < CELLS ? sums[32'(store_half)*CELLS+i] : 32'sd0;
  endfunction
  assign store_data = {result(32'(store_addr) * 2 + 1), result(32'(store_addr) * 2)};
endmodule
