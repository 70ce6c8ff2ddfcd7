// N:4 selection. A lane has BLOCKS multipliers, each with one kept weight of a block of four inputs and a 4:1 mux for its
// input. A row takes as many lanes as its fullest block keeps weights, 1, 2 or 4 (found from its mask words), or what
// the descriptor forces; rows come widest first, so that those of a filling lie side by side. A filling is multiplied
// with TOKENS tokens, one a cycle, whether the tile has as many or not.
//
// Descriptor: [18:16] lanes of every row where not 0. Spaces: 0 mask words (row * WORDS + word), 1 weights
// (beats of BLOCKS for (row * 4 + slot)), 2 their places in the block, as 1, 3 inputs (token * COLS / 8 + beat).
`include "ports.svh"
module select #(
    parameter int unsigned LANES = 8,   // a multiple of 4
    parameter int unsigned WORDS = 1,   // mask words of a row
    parameter int unsigned ROWS = 24,   // that are packed together
    parameter int unsigned TOKENS = 4
) (
    `PORTS
);
  localparam int unsigned BLOCKS = 16 * WORDS;
  localparam int unsigned COLS = 4 * BLOCKS;
  localparam int unsigned BEATS = BLOCKS / 8;
  localparam int unsigned SUMS = TOKENS * ROWS;
  localparam int unsigned MOST = 4 * ROWS + LANES;  // lanes of a tile
  localparam int unsigned LANE_PLACE = $clog2(2 * MOST);
  localparam int unsigned BEAT_PLACE = $clog2(2 * ROWS * 4 * BEATS);

  logic [63:0] weights[2*ROWS*4*BEATS];
  logic [63:0] places[2*ROWS*4*BEATS];
  logic [63:0] inputs[2*TOKENS*COLS/8];
  logic [31:0] lane_row[2*MOST];
  logic [2:0] lane_slot[2*MOST], lane_width[2*MOST];
  logic signed [31:0] sums[2*SUMS];

  logic load_write, load_half, start, running, in_half, out_half, store_half, done, drained;
  logic [63:0] descriptor;
  logic unused;
  assign unused = &{1'b0, descriptor[63:2], start};
  port port_i (.*);

  // Span: what the fullest block of four keeps, 3 rounded up to 4. Lanes are dealt out as the mask words pass.
  logic [2:0] fullest, span, wide, seen;
  logic [31:0] dealt[2];
  always_comb begin
    seen = 0;
    for (int unsigned b = 0; b < 16; b++) begin
      automatic logic [2:0] n = 0;
      for (int unsigned i = 0; i < 4; i++) n = n + 3'(load_data[4*b+i]);
      if (n > seen) seen = n;
    end
    wide = seen > fullest ? seen : fullest;
    span = load_descriptor[18:16] != 0 ? load_descriptor[18:16] : wide <= 1 ? 3'd1 : wide == 2 ? 3'd2 : 3'd4;
  end

  logic first_word;
  always_ff @(posedge clk) begin
    if (rst) begin
      dealt[0] <= 0;
      dealt[1] <= 0;
      fullest <= 0;
      first_word <= 1;
    end else if (load_write) begin
      automatic logic [31:0] half = 32'(load_half), at = 32'(load_addr);
      if (load_space == 0) begin
        automatic logic [31:0] from = first_word ? 0 : dealt[load_half];
        automatic logic ends_row = at % WORDS == WORDS - 1;
        fullest <= ends_row ? 0 : wide;
        first_word <= 0;
        dealt[load_half] <= from + (ends_row ? 32'(span) : 0);
        for (int unsigned s = 0; s < 4; s++)
          if (ends_row && 3'(s) < span) begin
            lane_row[half*MOST+from+s] <= at / WORDS;
            lane_slot[half*MOST+from+s] <= 3'(s);
            lane_width[half*MOST+from+s] <= span;
          end
      end
      if (load_space == 1) weights[half*ROWS*4*BEATS+at] <= load_data;
      if (load_space == 2) places[half*ROWS*4*BEATS+at] <= load_data;
      if (load_space == 3) inputs[half*TOKENS*COLS/8+at] <= load_data;
      if (load_last) first_word <= 1;
    end
  end

  logic [31:0] filling_at, token;  // first lane of the filling
  logic [LANES-1:0] used;
  assign done = running && token == TOKENS - 1 && filling_at + LANES >= dealt[in_half];
  assign ev_start = start;
  assign ev_done = done;
  assign ev_in = running;
  always_ff @(posedge clk) begin
    if (rst || done) begin
      filling_at <= 0;
      token <= 0;
    end else if (running) begin
      token <= token == TOKENS - 1 ? 0 : token + 1;
      if (token == TOKENS - 1) filling_at <= filling_at + LANES;
    end
  end

  always_comb begin
    ev_macs = 0;
    ev_active = '0;
    for (int unsigned l = 0; l < LANES; l++) begin
      used[l] = running && filling_at + l < dealt[in_half];
      if (used[l]) ev_macs = ev_macs + 16'(BLOCKS);
      if (l < 64) ev_active[l] = used[l];
    end
  end

  // Muxes and operands; the sum of a lane; the sum of a row's lanes into the output.
  logic signed [7:0] weight[LANES*BLOCKS], value[LANES*BLOCKS];
  logic signed [31:0] lane_sum[LANES];
  logic [LANES-1:0] valid[2];
  logic [31:0] to[2*LANES];
  logic [2:0] slot[2*LANES], width[2*LANES];
  logic [1:0] ending;

  always_ff @(posedge clk) begin
    if (start && descriptor[0])
      for (int unsigned i = 0; i < SUMS; i++) sums[32'(out_half)*SUMS+i] <= 0;
    for (int unsigned l = 0; l < LANES; l++) begin
      automatic logic [LANE_PLACE-1:0] at = LANE_PLACE'(32'(in_half) * MOST + filling_at + l);
      automatic logic signed [31:0] total = 0;
      for (int unsigned b = 0; b < BLOCKS; b++) begin
        automatic logic [BEAT_PLACE-1:0] beat = BEAT_PLACE'(
            ((32'(in_half) * ROWS + lane_row[at]) * 4 + 32'(lane_slot[at])) * BEATS + b / 8);
        automatic logic [63:0] four = inputs[((32'(in_half)*TOKENS+token)*COLS+4*b)/8];
        automatic logic [1:0] place = places[beat][8*(b%8)+:2];
        weight[l*BLOCKS+b] <= weights[beat][8*(b%8)+:8];
        value[l*BLOCKS+b] <= four[32*(b%2)+8*32'(place)+:8];
        total = total + 32'(weight[l*BLOCKS+b]) * 32'(value[l*BLOCKS+b]);
      end
      lane_sum[l] <= total;
      to[l] <= (32'(out_half) * TOKENS + token) * ROWS + lane_row[at];
      slot[l] <= lane_slot[at];
      width[l] <= lane_width[at];
      to[LANES+l] <= to[l];
      slot[LANES+l] <= slot[l];
      width[LANES+l] <= width[l];
      if (valid[1][l] && slot[LANES+l] == 0) begin
        automatic logic signed [31:0] row_sum = sums[to[LANES+l]];
        for (int unsigned s = 0; s < 4; s++) if (3'(s) < width[LANES+l]) row_sum = row_sum + lane_sum[(l+s)%LANES];
        sums[to[LANES+l]] <= row_sum;
      end
    end
    valid[0] <= rst ? '0 : used;
    valid[1] <= rst ? '0 : valid[0];
    ending <= rst ? '0 : {ending[0], done && descriptor[1]};
  end
  assign ev_out = valid[1] != 0;
  assign drained = ending[1];
  assign ev_drained = drained;

  function automatic logic signed [31:0] result(input logic [31:0] i);
    result = i < SUMS ? sums[32'(store_half)*SUMS+i] : 32'sd0;
  endfunction
  assign store_data = {result(32'(store_addr) * 2 + 1), result(32'(store_addr) * 2)};
endmodule
