// Inner joins of bitmask chunks. A cluster gets a chunk of a token's inputs (mask and nonzero values) at a time; each of
// its units joins it with the same chunk of its own filters, one match a cycle: the masks are ANDed, the lowest match is
// taken, and the bits below it are counted in either mask, which is where the values lie. A filter takes a cycle at
// least; the slowest unit ends the chunk, and clusters wait for each other when the tile's chunks are through.
//
// Descriptor: [15:8] tokens, [23:16] chunks. A unit holds SHARE filters a chunk; sums go where its identity says.
// Spaces: 0 weight masks (place * WORDS + word), 1 their values (place * CHUNK / 8 + beat), 2 identities (place), of a
// unit's first filter with the number of its filters in the upper half, with place = (unit of all * SHARE + filter) * CHUNKS + chunk; 3 input masks, 4 their values, place = token * CHUNKS + chunk.
`include "ports.svh"
module bitmask_join #(
    parameter int unsigned CLUSTERS = 2,
    parameter int unsigned UNITS = 4,    // of a cluster
    parameter int unsigned WORDS = 1,    // mask words of a chunk
    parameter int unsigned CHUNKS = 2,   // of a tile: clusters wait behind them
    parameter int unsigned SHARE = 1,
    parameter int unsigned TOKENS = 4
) (
    `PORTS
);
  localparam int unsigned CHUNK = 64 * WORDS;
  localparam int unsigned ALL = CLUSTERS * UNITS;
  localparam int unsigned PLACES = ALL * SHARE * CHUNKS;
  localparam int unsigned FILTERS = ALL * SHARE;
  localparam int unsigned SUMS = TOKENS * FILTERS;

  logic [63:0] weight_masks[2*PLACES*WORDS];
  logic [63:0] weights[2*PLACES*CHUNK/8];
  logic [63:0] identities[2*PLACES];
  logic [63:0] input_masks[2*TOKENS*CHUNKS*WORDS];
  logic [63:0] inputs[2*TOKENS*CHUNKS*CHUNK/8];
  logic signed [31:0] sums[2*SUMS];

  logic load_write, load_half, start, running, in_half, out_half, store_half, done, drained;
  logic [63:0] descriptor;
  logic unused;
  assign unused = &{1'b0, descriptor[63:24], descriptor[7:2], start};
  port port_i (.*);

  always_ff @(posedge clk)
    if (load_write) begin
      automatic logic [31:0] half = 32'(load_half), at = 32'(load_addr);
      if (load_space == 0) weight_masks[half*PLACES*WORDS+at] <= load_data;
      if (load_space == 1) weights[half*PLACES*CHUNK/8+at] <= load_data;
      if (load_space == 2) identities[half*PLACES+at] <= load_data;
      if (load_space == 3) input_masks[half*TOKENS*CHUNKS*WORDS+at] <= load_data;
      if (load_space == 4) inputs[half*TOKENS*CHUNKS*CHUNK/8+at] <= load_data;
    end

  logic [31:0] tokens, chunks, token;
  assign tokens = 32'(descriptor[15:8]);
  assign chunks = 32'(descriptor[23:16]);

  logic [31:0] chunk[CLUSTERS];
  logic [CLUSTERS-1:0] through, ends_window;  // waits for the others; ends at this edge
  logic [31:0] filter[ALL];
  logic [ALL-1:0] fresh, idle;                // the filter has not been begun; the unit is through with the chunk
  logic [CHUNK-1:0] remaining[ALL];
  logic [31:0] held[ALL];                     // filters of the unit in this chunk

  logic [CHUNK-1:0] common[ALL], after[ALL];
  logic [ALL-1:0] at_work, hit, ends;
  logic [31:0] weight_at[ALL], input_at[ALL], to[ALL];
  logic [CLUSTERS-1:0] chunk_ends;
  logic window_ends;

  always_comb begin
    ev_macs = 0;
    ev_active = '0;
    for (int unsigned u = 0; u < ALL; u++) begin
      automatic logic [31:0] place =
          32'(in_half) * PLACES + (u * SHARE + filter[u]) * CHUNKS + chunk[u/UNITS];
      automatic logic [31:0] from = (32'(in_half) * TOKENS + token) * CHUNKS + chunk[u/UNITS];
      automatic logic [CHUNK-1:0] in_weights = '0, in_inputs = '0;
      automatic logic [31:0] before_weight = 0, before_input = 0;
      for (int unsigned w = 0; w < WORDS; w++) begin
        in_weights[64*w+:64] = weight_masks[place*WORDS+w];
        in_inputs[64*w+:64] = input_masks[from*WORDS+w];
      end
      common[u] = fresh[u] ? in_weights & in_inputs : remaining[u];
      hit[u] = 0;
      weight_at[u] = place * CHUNK;
      input_at[u] = from * CHUNK;
      for (int unsigned c = 0; c < CHUNK; c++)
        if (!hit[u]) begin
          if (common[u][c]) begin
            hit[u] = 1;
            weight_at[u] = place * CHUNK + before_weight;
            input_at[u] = from * CHUNK + before_input;
          end
          before_weight = before_weight + 32'(in_weights[c]);
          before_input = before_input + 32'(in_inputs[c]);
        end
      after[u] = common[u] & (common[u] - 1);
      held[u] = identities[32'(in_half)*PLACES+u*SHARE*CHUNKS+chunk[u/UNITS]][63:32];
      at_work[u] = running && !through[u/UNITS] && !idle[u] && held[u] != 0;
      hit[u] = hit[u] && at_work[u];
      ends[u] = idle[u] || held[u] == 0 || (after[u] == 0 && filter[u] == held[u] - 1);
      to[u] = ((32'(out_half) * TOKENS + token) * FILTERS) + identities[place][31:0];
      ev_macs = ev_macs + 16'(hit[u]);
      if (at_work[u] && u < 64) ev_active[u] = 1;
    end
    for (int unsigned k = 0; k < CLUSTERS; k++) begin
      chunk_ends[k] = running && !through[k] && &ends[k*UNITS+:UNITS];
      ends_window[k] = through[k] || (chunk_ends[k] && chunk[k] == chunks - 1);
    end
    window_ends = running && &ends_window;
  end

  assign done = window_ends && token == tokens - 1;
  assign ev_start = start;
  assign ev_done = done;
  assign ev_in = running;

  always_ff @(posedge clk) begin
    if (rst || done) token <= 0;
    else if (window_ends) token <= token + 1;
    for (int unsigned k = 0; k < CLUSTERS; k++) begin
      through[k] <= !rst && !window_ends && ends_window[k] && running;
      if (rst || window_ends) chunk[k] <= 0;
      else if (chunk_ends[k] && !ends_window[k]) chunk[k] <= chunk[k] + 1;
    end
    for (int unsigned u = 0; u < ALL; u++) begin
      if (rst || chunk_ends[u/UNITS]) begin
        filter[u] <= 0;
        fresh[u] <= 1;
        idle[u] <= 0;
      end else if (at_work[u]) begin
        remaining[u] <= after[u];
        fresh[u] <= after[u] == 0;
        idle[u] <= ends[u];
        if (after[u] == 0 && !ends[u]) filter[u] <= filter[u] + 1;
      end
    end
  end

  // Operands, then the sum: two registers.
  logic signed [7:0] weight[ALL], value[ALL];
  logic [31:0] target[ALL];
  logic [ALL-1:0] valid;
  logic ending;
  always_ff @(posedge clk) begin
    if (start && descriptor[0])
      for (int unsigned i = 0; i < SUMS; i++) sums[32'(out_half)*SUMS+i] <= 0;
    for (int unsigned u = 0; u < ALL; u++) begin
      weight[u] <= weights[weight_at[u]/8][8*(weight_at[u]%8)+:8];
      value[u] <= inputs[input_at[u]/8][8*(input_at[u]%8)+:8];
      target[u] <= to[u];
      valid[u] <= hit[u] && !rst;
      if (valid[u]) sums[target[u]] <= sums[target[u]] + 32'(weight[u]) * 32'(value[u]);
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
