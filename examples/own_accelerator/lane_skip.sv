// The lane-skipping array as hardware: a tile is one window of 64 inputs of LANES outputs, with TOKENS tokens at once.
// Spaces: 0 a mask word a lane, 1 kept values (lane * 8 + beat), 2 inputs (token * 8 + beat).
`include "ports.svh"
module lane_skip #(
    parameter int unsigned LANES = 4,
    parameter int unsigned TOKENS = 2
) (
    `PORTS
);
  localparam int unsigned SUMS = LANES * TOKENS;
  localparam int unsigned PLACE = $clog2(2 * SUMS);

  logic [63:0] masks[2*LANES], values[2*LANES*8], inputs[2*TOKENS*8];
  logic signed [31:0] sums[2*SUMS];

  // The port says when a tile starts and which halves of the memories it has; `done` and `drained` are this array's.
  logic load_write, load_half, start, running, in_half, out_half, store_half, done, drained;
  logic [63:0] descriptor;
  logic unused;
  assign unused = &{1'b0, descriptor[63:2], load_space[3:2]};
  port port_i (.*);

  always_ff @(posedge clk)
    if (load_write) begin
      if (load_space == 0) masks[32'(load_half)*LANES+32'(load_addr)] <= load_data;
      if (load_space == 1) values[32'(load_half)*LANES*8+32'(load_addr)] <= load_data;
      if (load_space == 2) inputs[32'(load_half)*TOKENS*8+32'(load_addr)] <= load_data;
    end

  // At every edge a lane takes its lowest kept position; `taken` says which value of the window that is.
  logic fresh;  // the window has not been begun
  logic [63:0] remaining[LANES], now[LANES], left[LANES];
  logic [31:0] taken[LANES], position[LANES];
  logic at_work[LANES], all_end;

  always_comb begin
    all_end = 1;
    ev_in = 0;
    ev_macs = 0;
    ev_active = '0;
    for (int unsigned l = 0; l < LANES; l++) begin
      now[l] = fresh ? masks[32'(in_half)*LANES+l] : remaining[l];
      left[l] = now[l] & (now[l] - 1);
      at_work[l] = running && now[l] != 0;
      position[l] = 0;
      for (int unsigned c = 64; c > 0; c--) if (now[l][c-1]) position[l] = c - 1;
      all_end = all_end && left[l] == 0;
      ev_in = ev_in || at_work[l];
      if (at_work[l]) ev_macs = ev_macs + 16'(TOKENS);
      if (l < 64) ev_active[l] = at_work[l];
    end
  end

  assign done = running && all_end;  // the fullest lane ends the window
  assign ev_start = start;
  assign ev_done = done;

  always_ff @(posedge clk) begin
    fresh <= rst || !running || done;
    for (int unsigned l = 0; l < LANES; l++) begin
      remaining[l] <= left[l];
      taken[l] <= rst || !running || done ? 0 : taken[l] + 32'(at_work[l]);
    end
  end

  // Operands, then the sums: a register each.
  logic signed [7:0] weight[LANES], value[SUMS];
  logic valid[LANES];
  logic half, ending;
  always_ff @(posedge clk) begin
    if (start && descriptor[0]) for (int unsigned i = 0; i < SUMS; i++) sums[32'(out_half)*SUMS+i] <= 0;
    for (int unsigned l = 0; l < LANES; l++) begin
      automatic logic [31:0] at = (32'(in_half) * LANES + l) * 64 + taken[l];
      weight[l] <= values[at/8][8*(at%8)+:8];
      valid[l] <= at_work[l] && !rst;
      for (int unsigned t = 0; t < TOKENS; t++) begin
        automatic logic [31:0] from = (32'(in_half) * TOKENS + t) * 64 + position[l];
        automatic logic [PLACE-1:0] to = PLACE'((32'(half) * TOKENS + t) * LANES + l);
        value[l*TOKENS+t] <= inputs[from/8][8*(from%8)+:8];
        if (valid[l]) sums[to] <= sums[to] + 32'(weight[l]) * 32'(value[l*TOKENS+t]);
      end
    end
    half <= out_half;
    ending <= done && descriptor[1] && !rst;
  end
  always_comb begin
    ev_out = 0;
    for (int unsigned l = 0; l < LANES; l++) ev_out = ev_out || valid[l];
  end
  assign drained = ending;
  assign ev_drained = drained;
  assign store_data = {sums[32'(store_half)*SUMS+2*32'(store_addr)+1], sums[32'(store_half)*SUMS+2*32'(store_addr)]};
endmodule
