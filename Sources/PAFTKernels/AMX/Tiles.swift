// SPDX-License-Identifier: Apache-2.0

import CVector
import PAFTKernelBodies

/// The tile instructions. A tile's number is a constant at every use, so each switch is one
/// instruction.
enum Tiles: TileUnit {
  @inline(__always) static func configure(_ shapes: UnsafeRawPointer) {
    paft_tile_configure(shapes)
  }
  @inline(__always) static func release() {
    paft_tile_release()
  }
  @inline(__always) static func zero(_ tile: Int) {
    switch tile {
    case 0: paft_tile_zero_0()
    case 1: paft_tile_zero_1()
    case 2: paft_tile_zero_2()
    default: paft_tile_zero_3()
    }
  }
  @inline(__always)
  static func load(_ tile: Int, _ from: UnsafeRawPointer, _ stride: Int) {
    switch tile {
    case 0: paft_tile_load_0(from, stride)
    case 1: paft_tile_load_1(from, stride)
    case 2: paft_tile_load_2(from, stride)
    case 3: paft_tile_load_3(from, stride)
    case 4: paft_tile_load_4(from, stride)
    case 5: paft_tile_load_5(from, stride)
    case 6: paft_tile_load_6(from, stride)
    default: paft_tile_load_7(from, stride)
    }
  }
  @inline(__always)
  static func store(_ tile: Int, _ to: UnsafeMutableRawPointer, _ stride: Int) {
    switch tile {
    case 0: paft_tile_store_0(to, stride)
    case 1: paft_tile_store_1(to, stride)
    case 2: paft_tile_store_2(to, stride)
    default: paft_tile_store_3(to, stride)
    }
  }
  @inline(__always) static func dotPairs(_ sum: Int) {
    switch sum {
    case 0: paft_tile_dot_pairs_0()
    case 1: paft_tile_dot_pairs_1()
    case 2: paft_tile_dot_pairs_2()
    default: paft_tile_dot_pairs_3()
    }
  }
  @inline(__always) static func dotQuads(_ sum: Int) {
    switch sum {
    case 0: paft_tile_dot_quads_0()
    case 1: paft_tile_dot_quads_1()
    case 2: paft_tile_dot_quads_2()
    default: paft_tile_dot_quads_3()
    }
  }
}
