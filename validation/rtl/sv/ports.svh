// The ports that every design has, so that one harness drives them all. A beat carries 8 bytes into `load_space` at
// `load_addr`; the last beat of a tile brings its descriptor. Bits 0 and 1 of it: first and last tile of an output group.
// beat_cycles (from 1 on) and double_buffered are fixed from reset on.
`ifndef PORTS_SVH
`define PORTS_SVH
`define PORTS \
  input  logic        clk, \
  input  logic        rst, \
  input  logic [7:0]  beat_cycles, \
  input  logic        double_buffered, \
  input  logic        load_valid, \
  input  logic        load_last, \
  input  logic [3:0]  load_space, \
  input  logic [15:0] load_addr, \
  input  logic [63:0] load_data, \
  input  logic [63:0] load_descriptor, \
  output logic        load_ready, \
  input  logic        store_valid, \
  input  logic        store_last, \
  input  logic [15:0] store_addr, \
  output logic        store_ready, \
  output logic [63:0] store_data, \
  output logic        ev_in, \
  output logic        ev_out, \
  output logic        ev_start, \
  output logic        ev_done, \
  output logic        ev_drained, \
  output logic [15:0] ev_macs, \
  output logic [63:0] ev_active
`endif
