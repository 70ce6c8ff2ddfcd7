// One port to memory for loads and stores. Input buffers and output buffers have halves: two (double_buffered) or one. A tile is
// loaded into a free half, computed, and its half freed when its last operand has entered the array; an output group
// holds an output half from its first tile until its sums are stored.
module port (
    input  logic        clk,
    input  logic        rst,
    input  logic [7:0]  beat_cycles,  // for 8 bytes
    input  logic        double_buffered,
    input  logic        load_valid,
    input  logic        load_last,
    input  logic [63:0] load_descriptor,
    output logic        load_ready,
    output logic        load_write,  // this edge writes the beat
    output logic        load_half,
    input  logic        store_valid,
    input  logic        store_last,
    output logic        store_ready,
    output logic        store_half,
    output logic        start,       // the array takes the tile's first operands at this very edge
    output logic        running,
    output logic [63:0] descriptor,  // of the tile that starts or runs
    output logic        in_half,
    output logic        out_half,
    input  logic        done,        // at this edge the array takes the tile's last operands
    input  logic        drained      // at this edge the last sum of an output group is written
);
  logic [63:0] descriptors[2];
  logic [2:0] held, groups, full;  // tiles loaded and not done; groups begun and not stored; groups ready to store
  logic [2:0] halves;
  logic [7:0] pace;
  logic busy, group_half, beat_end, open, opens, stored;

  assign halves = double_buffered ? 3'd2 : 3'd1;
  assign open = load_valid && held < halves;
  assign beat_end = pace == beat_cycles - 8'd1;
  assign load_ready = open && beat_end;
  assign load_write = load_ready;
  assign store_ready = store_valid && full != 0 && beat_end;
  assign stored = store_ready && store_last;

  assign descriptor = descriptors[in_half];
  assign start = !busy && held != 0 && (!descriptor[0] || groups < halves);
  assign running = busy || start;
  assign opens = start && descriptor[0];
  assign out_half = double_buffered && (descriptor[0] ? group_half : ~group_half);  // later tiles of a group keep to its half

  always_ff @(posedge clk) begin
    if (rst) begin
      held <= 0;
      groups <= 0;
      full <= 0;
      pace <= 0;
      busy <= 0;
      load_half <= 0;
      in_half <= 0;
      group_half <= 0;
      store_half <= 0;
    end else begin
      if (open || (store_valid && full != 0)) pace <= beat_end ? '0 : pace + 1'b1;
      if (load_ready && load_last) begin
        descriptors[load_half] <= load_descriptor;
        if (double_buffered) load_half <= ~load_half;
      end
      held <= held + 3'(load_ready && load_last) - 3'(done);
      groups <= groups + 3'(opens) - 3'(stored);
      full <= full + 3'(drained) - 3'(stored);
      busy <= running && !done;
      if (done && double_buffered) in_half <= ~in_half;
      if (done && descriptor[0] && double_buffered) group_half <= ~group_half;
      if (stored && double_buffered) store_half <= ~store_half;
    end
  end
endmodule
