// SPDX-License-Identifier: Apache-2.0

import PAFTBase

// All eight packers are one loop: `width` slots per step of k, of which `valid` come from the
// source. `slotStride` and `kStride` say how far apart neighbours lie in the source, so A and B,
// straight and transposed, differ only in these four numbers.

private func pack_f32(
  _ dst: KernelTable.Out, _ src: KernelTable.In, width: Int, valid: Int, k: Int, slotStride: Int,
  kStride: Int
) {
  for p in 0..<k {
    for slot in 0..<width {
      dst[p &* width &+ slot] = slot < valid ? src[slot &* slotStride &+ p &* kStride] : 0
    }
  }
}

private func pack_bf16(
  _ dst: KernelTable.Out16, _ src: KernelTable.In, width: Int, valid: Int, k: Int, slotStride: Int,
  kStride: Int
) {
  for pair in 0..<(k &+ 1) / 2 {
    for slot in 0..<width {
      for half in 0..<2 {
        let p = pair &* 2 &+ half
        let value = slot < valid && p < k ? src[slot &* slotStride &+ p &* kStride] : 0
        dst[(pair &* width &+ slot) &* 2 &+ half] = BF16(value).bits
      }
    }
  }
}

func packA_f32(
  _ dst: KernelTable.Out, _ src: KernelTable.In, _ rows: Int, _ k: Int, _ stride: Int
) {
  pack_f32(
    dst, src, width: referenceTile.rows, valid: rows, k: k, slotStride: stride, kStride: 1)
}

func packA_bf16(
  _ dst: KernelTable.Out16, _ src: KernelTable.In, _ rows: Int, _ k: Int, _ stride: Int
) {
  pack_bf16(
    dst, src, width: referenceTile.rows, valid: rows, k: k, slotStride: stride, kStride: 1)
}

func packAT_f32(
  _ dst: KernelTable.Out, _ src: KernelTable.In, _ rows: Int, _ k: Int, _ stride: Int
) {
  for first in Swift.stride(from: 0, to: rows, by: referenceTile.rows) {
    pack_f32(
      dst + first &* k, src + first, width: referenceTile.rows,
      valid: min(referenceTile.rows, rows - first), k: k, slotStride: 1, kStride: stride)
  }
}

func packAT_bf16(
  _ dst: KernelTable.Out16, _ src: KernelTable.In, _ rows: Int, _ k: Int, _ stride: Int
) {
  for first in Swift.stride(from: 0, to: rows, by: referenceTile.rows) {
    pack_bf16(
      dst + first &* referencePairTile.padded(k), src + first, width: referenceTile.rows,
      valid: min(referenceTile.rows, rows - first), k: k, slotStride: 1, kStride: stride)
  }
}

func packB_f32(
  _ dst: KernelTable.Out, _ src: KernelTable.In, _ columns: Int, _ k: Int, _ stride: Int
) {
  pack_f32(
    dst, src, width: referenceTile.width(columns), valid: columns, k: k, slotStride: 1,
    kStride: stride)
}

func packB_bf16(
  _ dst: KernelTable.Out16, _ src: KernelTable.In, _ columns: Int, _ k: Int, _ stride: Int
) {
  pack_bf16(
    dst, src, width: referenceTile.width(columns), valid: columns, k: k, slotStride: 1,
    kStride: stride)
}

func packBT_f32(
  _ dst: KernelTable.Out, _ src: KernelTable.In, _ columns: Int, _ k: Int, _ stride: Int
) {
  pack_f32(
    dst, src, width: referenceTile.width(columns), valid: columns, k: k, slotStride: stride,
    kStride: 1)
}

func packBT_bf16(
  _ dst: KernelTable.Out16, _ src: KernelTable.In, _ columns: Int, _ k: Int, _ stride: Int
) {
  pack_bf16(
    dst, src, width: referenceTile.width(columns), valid: columns, k: k, slotStride: stride,
    kStride: 1)
}

func unpackBT_bf16(
  _ dst: KernelTable.Out, _ src: KernelTable.In16, _ columns: Int, _ k: Int, _ stride: Int
) {
  let width = referencePairTile.width(columns)
  for column in 0..<columns {
    for p in 0..<k {
      dst[column &* stride &+ p] = BF16(bits: src[(p / 2 &* width &+ column) &* 2 &+ p % 2]).float
    }
  }
}

func turnB_f32(
  _ dst: KernelTable.Out, _ src: KernelTable.In, _ columns: Int, _ k: Int, _: UnsafeRawPointer
) {
  let (to, from) = (referenceTile.width(columns), referenceTile.width(k))
  for p in 0..<k {
    for column in 0..<to {
      dst[p &* to &+ column] = column < columns ? src[column &* from &+ p] : 0
    }
  }
}

func turnB_bf16(
  _ dst: KernelTable.Out16, _ src: KernelTable.In16, _ columns: Int, _ k: Int,
  _: UnsafeRawPointer
) {
  let (to, from) = (referencePairTile.width(columns), referencePairTile.width(k))
  for p in 0..<referencePairTile.padded(k) {
    for column in 0..<to {
      dst[(p / 2 &* to &+ column) &* 2 &+ p % 2] =
        p < k && column < columns ? src[(column / 2 &* from &+ p) &* 2 &+ column % 2] : 0
    }
  }
}
