// Kept weights packed side by side onto multipliers, ports that distribute to them, and an adder tree that sums rows of
// any length. As mask words pass, rows go into folds: whole rows while they fit, or (CONTINUOUS) without gaps; what is
// cut goes on in the next fold, whose first multiplier then carries the partial sum. A fold: a cycle to configure; every
// port sends its multipliers their weights, then of every token each distinct input once (and the partial sum); the
// tree; a cycle in which its root is written. Ports run ahead of each other by QUEUE tokens at most.
//
// The tree has one adder a node: it joins the sum at the right edge of its left half with that at the left edge of its
// right half where both are of one row. Sums that end inside leave the tree at that node.
//
// Descriptor: [15:8] tokens. Spaces: 0 mask words (row), 1 kept values by row and column (beat), 2 inputs (token * 8 +
// beat).
`include "ports.svh"
module sigma #(
    parameter int unsigned MULTIPLIERS = 16,  // a power of two
    parameter int unsigned FEEDS = 4,         // ports of the distribution, a divisor
    parameter int unsigned ROWS = 16,
    parameter int unsigned TOKENS = 3,
    parameter int unsigned QUEUE = 3,
    parameter int unsigned CONTINUOUS = 0
) (
    `PORTS
);
  localparam int unsigned COLS = 64;
  localparam int unsigned EACH = MULTIPLIERS / FEEDS;
  localparam int unsigned LEVELS = $clog2(MULTIPLIERS);
  localparam int unsigned FOLDS = ROWS * (COLS / (MULTIPLIERS - 1) + 2);
  localparam int unsigned SLOTS = FOLDS * MULTIPLIERS;
  localparam int unsigned SUMS = TOKENS * ROWS;
  localparam int unsigned NODE = $clog2((LEVELS + 1) * MULTIPLIERS);
  localparam logic [31:0] NONE = 32'hffff;

  logic [63:0] values[2*ROWS*COLS/8];
  logic [63:0] inputs[2*TOKENS*COLS/8];
  logic signed [31:0] sums[2*SUMS];
  // Slots: row, column, place of the value; a partial sum has none.
  logic [31:0] slot_row[2*SLOTS], slot_column[2*SLOTS], slot_value[2*SLOTS];
  logic slot_partial[2*SLOTS];
  logic [31:0] fold_used[2*FOLDS];

  logic load_write, load_half, start, running, in_half, out_half, store_half, done, drained;
  logic [63:0] descriptor;
  logic unused;
  assign unused = &{1'b0, descriptor[63:16], descriptor[7:2]};
  port port_i (.*);

  // Packing, as mask words pass.
  logic [31:0] packing_fold[2], used, kept_before;
  logic anything[2], cut;
  always_ff @(posedge clk)
    if (rst) begin
      used <= 0;
      cut <= 0;
      kept_before <= 0;
      packing_fold[0] <= 0;
      packing_fold[1] <= 0;
      anything[0] <= 0;
      anything[1] <= 0;
    end else if (load_write) begin
      automatic logic [31:0] half = 32'(load_half);
      if (load_space == 0) begin
        automatic logic [31:0] n = 0, fold, now, kept;
        automatic logic split = 0;
        for (int unsigned c = 0; c < COLS; c++) n = n + 32'(load_data[c]);
        fold = load_addr == 0 ? 0 : packing_fold[load_half];
        now = load_addr == 0 ? 0 : used;
        kept = load_addr == 0 ? 0 : kept_before;
        if (CONTINUOUS == 0 && n != 0 && now != 0 && (now + n > MULTIPLIERS || (cut && load_addr != 0))) begin
          fold = fold + 1;
          now = 0;
        end
        for (int unsigned c = 0; c < COLS; c++)
          if (load_data[c]) begin
            if (now == MULTIPLIERS) begin
              fold = fold + 1;
              now = 0;
              if (kept != (load_addr == 0 ? 0 : kept_before)) begin  // the row has begun: its sum goes on here
                slot_row[half*SLOTS+fold*MULTIPLIERS] <= 32'(load_addr);
                slot_partial[half*SLOTS+fold*MULTIPLIERS] <= 1;
                slot_column[half*SLOTS+fold*MULTIPLIERS] <= NONE;
                now = 1;
                split = 1;
              end
            end
            slot_row[half*SLOTS+fold*MULTIPLIERS+now] <= 32'(load_addr);
            slot_column[half*SLOTS+fold*MULTIPLIERS+now] <= c;
            slot_value[half*SLOTS+fold*MULTIPLIERS+now] <= kept;
            slot_partial[half*SLOTS+fold*MULTIPLIERS+now] <= 0;
            kept = kept + 1;
            now = now + 1;
            fold_used[half*FOLDS+fold] <= now;
          end
        packing_fold[load_half] <= fold;
        anything[load_half] <= kept != 0;
        used <= now;
        if (n != 0 || load_addr == 0) cut <= split;
        kept_before <= kept;
      end
      if (load_space == 1) values[half*ROWS*COLS/8+32'(load_addr)] <= load_data;
      if (load_space == 2) inputs[half*TOKENS*COLS/8+32'(load_addr)] <= load_data;
    end

  logic [31:0] tokens, fold, at_fold, in_use;
  logic configured;
  assign tokens = 32'(descriptor[15:8]);
  assign at_fold = 32'(in_half) * SLOTS + fold * MULTIPLIERS;
  assign in_use = fold_used[32'(in_half)*FOLDS+fold];

  // Ports.
  logic signed [7:0] weight[MULTIPLIERS];
  logic [MULTIPLIERS-1:0] has_weight, served, gets_weight, gets_input, partial;
  logic [31:0] port_token[FEEDS], input_at[FEEDS], weight_at[FEEDS];
  logic [FEEDS-1:0] sends, token_ends;
  logic signed [31:0] product[MULTIPLIERS*QUEUE];
  logic fires;
  logic [31:0] fired;

  always_comb begin
    ev_macs = 0;
    ev_active = '0;
    fires = running && configured && fired < tokens;
    for (int unsigned p = 0; p < FEEDS; p++) begin
      automatic logic weight_left = 0, input_left = 0;
      automatic logic [31:0] column = NONE;
      sends[p] = 0;
      input_at[p] = 0;
      weight_at[p] = 0;
      for (int unsigned m = p * EACH; m < p * EACH + EACH; m++) begin
        partial[m] = slot_partial[at_fold+m];
        gets_weight[m] = 0;
        gets_input[m] = 0;
        if (!weight_left && m < in_use && !partial[m] && !has_weight[m]) begin
          weight_left = 1;
          gets_weight[m] = running && configured;
          weight_at[p] = slot_value[at_fold+m];
        end
      end
      for (int unsigned m = p * EACH; m < p * EACH + EACH; m++)
        if (running && configured && !weight_left && port_token[p] < tokens && port_token[p] - fired < QUEUE
            && m < in_use && !served[m]) begin
          if (!sends[p]) column = slot_column[at_fold+m];
          gets_input[m] = !sends[p] || (!partial[m] && slot_column[at_fold+m] == column);
          sends[p] = 1;
          input_left = input_left || !gets_input[m];
        end
      input_at[p] = (32'(in_half) * TOKENS + port_token[p]) * COLS + column;
      token_ends[p] = sends[p] && !input_left;
      if (weight_left && running && configured) sends[p] = 1;
      fires = fires && (port_token[p] > fired || p * EACH >= in_use);
    end
    for (int unsigned m = 0; m < MULTIPLIERS; m++) begin
      ev_macs = ev_macs + 16'(gets_input[m] && !partial[m]);
      if (m < 64) ev_active[m] = gets_input[m] || gets_weight[m];
    end
  end

  // The tree: sums at the left and right edge of a node and their rows; whole: the node is of one row.
  logic signed [31:0] left_sum[(LEVELS+1)*MULTIPLIERS], right_sum[(LEVELS+1)*MULTIPLIERS];
  logic [31:0] left_row[(LEVELS+1)*MULTIPLIERS], right_row[(LEVELS+1)*MULTIPLIERS];
  logic whole[(LEVELS+1)*MULTIPLIERS];
  logic [LEVELS:0] valid;
  logic [31:0] of_token[LEVELS+1];
  logic last_fold, empty, fold_done;

  always_comb begin  // leaves: what fires at this edge
    valid[0] = fires;
    of_token[0] = fired;
    for (int unsigned m = 0; m < MULTIPLIERS; m++) begin
      left_sum[m] = m < in_use ? product[m*QUEUE+fired%QUEUE] : 0;
      right_sum[m] = left_sum[m];
      left_row[m] = m < in_use ? slot_row[at_fold+m] : NONE;
      right_row[m] = left_row[m];
      whole[m] = 1;
    end
  end

  assign empty = running && !anything[in_half];
  assign last_fold = fold == packing_fold[in_half];
  assign fold_done = running && valid[LEVELS] && of_token[LEVELS] == tokens - 1;
  assign done = empty || (fold_done && last_fold);
  assign ev_start = start;
  assign ev_done = done;
  assign ev_in = sends != 0;

  always_ff @(posedge clk) begin
    if (start && descriptor[0])
      for (int unsigned i = 0; i < SUMS; i++) sums[32'(out_half)*SUMS+i] <= 0;
    if (rst || done) fold <= 0;
    else if (fold_done) fold <= fold + 1;
    configured <= !rst && running && !fold_done && !empty;
    fired <= rst || !configured || fold_done ? 0 : fired + 32'(fires);
    for (int unsigned p = 0; p < FEEDS; p++) begin
      port_token[p] <= rst || !configured || fold_done ? 0 : port_token[p] + 32'(token_ends[p]);
      for (int unsigned m = p * EACH; m < p * EACH + EACH; m++) begin
        automatic logic [31:0] w = 32'(in_half) * ROWS * COLS + weight_at[p];
        automatic logic signed [7:0] x = inputs[input_at[p]/8][8*(input_at[p]%8)+:8];
        if (gets_weight[m]) weight[m] <= values[w/8][8*(w%8)+:8];
        has_weight[m] <= !rst && configured && !fold_done && (has_weight[m] || gets_weight[m]);
        served[m] <= !rst && configured && !token_ends[p] && (served[m] || gets_input[m]);
        if (gets_input[m])
          product[m*QUEUE+port_token[p]%QUEUE] <= partial[m]
              ? sums[32'(out_half)*SUMS+port_token[p]*ROWS+slot_row[at_fold+m]] : 32'(weight[m]) * 32'(x);
      end
    end
    for (int unsigned l = 1; l <= LEVELS; l++) begin
      valid[l] <= !rst && valid[l-1];
      of_token[l] <= of_token[l-1];
      for (int unsigned n = 0; n < (MULTIPLIERS >> l); n++) begin
        automatic logic [NODE-1:0] a = NODE'((l - 1) * MULTIPLIERS + 2 * n), b = a + 1'b1, to = NODE'(l * MULTIPLIERS + n);
        automatic logic same = right_row[a] == left_row[b];
        automatic logic signed [31:0] joined = right_sum[a] + left_sum[b];
        automatic logic [31:0] base = 32'(out_half) * SUMS + of_token[l-1] * ROWS;
        left_sum[to] <= same && whole[a] ? joined : left_sum[a];
        left_row[to] <= left_row[a];
        right_sum[to] <= same && whole[b] ? joined : right_sum[b];
        right_row[to] <= right_row[b];
        whole[to] <= same && whole[a] && whole[b];
        if (valid[l-1]) begin
          if (same && !whole[a] && !whole[b] && left_row[b] != NONE) sums[base+left_row[b]] <= joined;
          if (!same && !whole[a] && right_row[a] != NONE) sums[base+right_row[a]] <= right_sum[a];
          if (!same && !whole[b] && left_row[b] != NONE) sums[base+left_row[b]] <= left_sum[b];
        end
      end
    end
    if (valid[LEVELS]) begin
      automatic logic [31:0] base = 32'(out_half) * SUMS + of_token[LEVELS] * ROWS;
      automatic logic [NODE-1:0] root = NODE'(LEVELS * MULTIPLIERS);
      if (left_row[root] != NONE) sums[base+left_row[root]] <= left_sum[root];
      if (!whole[root] && right_row[root] != NONE) sums[base+right_row[root]] <= right_sum[root];
    end
  end
  assign ev_out = valid[LEVELS:1] != 0;
  assign drained = done && descriptor[1];
  assign ev_drained = drained;

  function automatic logic signed [31:0] result(input logic [31:0] i);
    result = i < SUMS ? sums[32'(store_half)*SUMS+i] : 32'sd0;
  endfunction
  assign store_data = {result(32'(store_addr) * 2 + 1), result(32'(store_addr) * 2)};
endmodule
