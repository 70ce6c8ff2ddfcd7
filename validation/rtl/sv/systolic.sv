// A grid of ROWS x COLS cells. Values that stay are shifted in from the top, a row a cycle; then items stream from the
// left, skewed by a register a row, and sums run down, a cell a cycle. ws: weights stay and tokens stream; is: inputs
// stay and outputs stream. With CHOICES > 1 a cell gets that many values of an item and picks one by its index (N:M).
//
// Descriptor: [23:8] items. Spaces: 0 values that stay (row * beats of COLS + beat), 1 items (item * beats of
// ROWS * CHOICES + beat), 2 indices of what stays, as space 0; all are bytes, 8 a beat.
`include "ports.svh"
module systolic #(
    parameter int unsigned ROWS = 4,
    parameter int unsigned COLS = 4,
    parameter int unsigned ITEMS = 64,  // most of a tile
    parameter int unsigned CHOICES = 1
) (
    `PORTS
);
  localparam int unsigned CELLS = ROWS * COLS;
  localparam int unsigned STAY_BEATS = (COLS + 7) / 8;
  localparam int unsigned ITEM_BYTES = ROWS * CHOICES;
  localparam int unsigned ITEM_BEATS = (ITEM_BYTES + 7) / 8;
  localparam int unsigned SUMS = ITEMS * COLS;
  localparam int unsigned WIDTH = 8 * CHOICES;
  localparam int unsigned STAY_PLACE = $clog2(2 * ROWS * STAY_BEATS);
  localparam int unsigned SUM_PLACE = $clog2(2 * SUMS);

  logic [63:0] stay[2*ROWS*STAY_BEATS];
  logic [63:0] choice[2*ROWS*STAY_BEATS];
  logic [63:0] items[2*ITEMS*ITEM_BEATS];
  logic signed [31:0] sums[2*SUMS];

  logic load_write, load_half, start, running, in_half, out_half, store_half, done, drained;
  logic [63:0] descriptor;
  logic unused;
  assign unused = &{1'b0, descriptor[63:24], descriptor[7:2], load_space[3:2]};
  port port_i (.*);

  always_ff @(posedge clk)
    if (load_write) begin
      if (load_space == 0) stay[32'(load_half)*ROWS*STAY_BEATS+32'(load_addr)] <= load_data;
      if (load_space == 1) items[32'(load_half)*ITEMS*ITEM_BEATS+32'(load_addr)] <= load_data;
      if (load_space == 2) choice[32'(load_half)*ROWS*STAY_BEATS+32'(load_addr)] <= load_data;
    end

  // The fold's clock: ROWS edges fill the grid, item t enters the first row at edge ROWS + t.
  logic [31:0] now, count;
  logic filling, streaming;
  logic [31:0] item;
  assign count = 32'(descriptor[23:8]);
  assign filling = running && now < ROWS;
  assign streaming = running && now >= ROWS && item < count;
  assign item = now - ROWS;
  assign done = running && now == 2 * ROWS + COLS + count - 3;
  always_ff @(posedge clk) now <= rst || !running || done ? 0 : now + 1;

  // Cells. row_in: what a row gets from the left, behind its skew registers.
  logic signed [7:0] weight[CELLS];
  logic [7:0] index[CELLS];
  logic [WIDTH-1:0] passing[CELLS];
  logic valid[CELLS];
  logic signed [31:0] partial[CELLS];
  logic [WIDTH-1:0] skew[ROWS*ROWS];  // row r uses r of them
  logic skew_valid[ROWS*ROWS];
  logic [WIDTH-1:0] row_in[ROWS];
  logic [ROWS-1:0] row_valid;

  function automatic logic [WIDTH-1:0] of_item(input logic [31:0] r);
    for (int unsigned b = 0; b < CHOICES; b++) begin
      automatic logic [31:0] at = r * CHOICES + b;
      of_item[8*b+:8] = items[(32'(in_half)*ITEMS+item)*ITEM_BEATS+at/8][8*(at%8)+:8];
    end
  endfunction

  always_comb
    for (int unsigned r = 0; r < ROWS; r++) begin
      row_in[r] = r == 0 ? of_item(r) : skew[r*ROWS+r-1];
      row_valid[r] = r == 0 ? streaming : skew_valid[r*ROWS+r-1];
    end

  always_ff @(posedge clk)
    for (int unsigned r = 0; r < ROWS; r++) begin
      for (int unsigned s = 0; s < r; s++) begin
        skew[r*ROWS+s] <= s == 0 ? of_item(r) : skew[r*ROWS+s-1];
        skew_valid[r*ROWS+s] <= !rst && (s == 0 ? streaming : skew_valid[r*ROWS+s-1]);
      end
      for (int unsigned c = 0; c < COLS; c++) begin
        automatic logic [31:0] cell_at = r * COLS + c;
        automatic logic [STAY_PLACE-1:0] top = STAY_PLACE'((32'(in_half) * ROWS + ROWS - 1 - now) * STAY_BEATS + c / 8);
        automatic logic [WIDTH-1:0] got = c == 0 ? row_in[r] : passing[cell_at-1];
        automatic logic signed [7:0] picked = got[8*(CHOICES>1?32'(index[cell_at]):0)+:8];
        if (filling) begin
          weight[cell_at] <= r == 0 ? stay[top][8*(c%8)+:8] : weight[cell_at-COLS];
          index[cell_at] <= r == 0 ? choice[top][8*(c%8)+:8] : index[cell_at-COLS];
        end
        passing[cell_at] <= got;
        valid[cell_at] <= !rst && (c == 0 ? row_valid[r] : valid[cell_at-1]);
        partial[cell_at] <= 32'(picked) * 32'(weight[cell_at]) + (r == 0 ? 32'sd0 : partial[cell_at-COLS]);
      end
    end

  // Sums leave the last row, column after column a cycle later; a counter a column says of which item.
  logic [31:0] leaves[COLS];
  logic [COLS-1:0] fresh, into;  // the column's first tile of its output group; its half
  logic ending;
  always_ff @(posedge clk) begin
    for (int unsigned c = 0; c < COLS; c++) begin
      automatic logic [SUM_PLACE-1:0] to = SUM_PLACE'((into[c] ? SUMS : 0) + leaves[c] * COLS + c);
      if (valid[(ROWS-1)*COLS+c]) begin
        sums[to] <= partial[(ROWS-1)*COLS+c] + (fresh[c] ? 32'sd0 : sums[to]);
        leaves[c] <= leaves[c] + 1;
      end else if (filling) begin  // the fold before has left, but for its last sum
        leaves[c] <= 0;
        fresh[c] <= descriptor[0];
        into[c] <= out_half;
      end
    end
    ending <= !rst && done && descriptor[1];
  end

  always_comb begin
    ev_macs = 0;
    for (int unsigned r = 0; r < ROWS; r++)
      for (int unsigned c = 0; c < COLS; c++)
        ev_macs = ev_macs + 16'(c == 0 ? row_valid[r] : valid[r*COLS+c-1]);
    ev_out = 0;
    for (int unsigned c = 0; c < COLS; c++) ev_out = ev_out || valid[(ROWS-1)*COLS+c];
    ev_active = '0;
    for (int unsigned r = 0; r < ROWS && r < 64; r++) ev_active[r] = row_valid[r];
  end
  assign ev_in = filling || streaming;
  assign ev_start = start;
  assign ev_done = done;
  assign drained = ending;
  assign ev_drained = drained;
  assign store_data = {result(32'(store_addr) * 2 + 1), result(32'(store_addr) * 2)};

  function automatic logic signed [31:0] result(input logic [31:0] i);
    result = i < SUMS ? sums[32'(store_half)*SUMS+i] : 32'sd0;
  endfunction
endmodule
