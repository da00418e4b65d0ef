// SPDX-License-Identifier: Apache-2.0

import PAFTBase

private func delta(_ x: KernelTable.In16, _ b: KernelTable.In16, _ i: Int) -> Float {
  BF16(bits: x[i]).float - BF16(bits: b[i]).float
}

func survey_bf16(
  _ sums: UnsafeMutablePointer<Double>, _ counts: UnsafeMutablePointer<Int>, _ x: KernelTable.In16,
  _ y: KernelTable.In16, _ b: KernelTable.In16, _ n: Int, _ limits: KernelTable.In
) {
  for i in 0..<n {
    let (dx, dy) = (delta(x, b, i), delta(y, b, i))
    sums[0] += Double(dx) * Double(dx)
    sums[1] += Double(dy) * Double(dy)
    sums[2] += Double(dx) * Double(dy)
    for k in 0..<6 {
      if dx.magnitude <= limits[k] { counts[k] += 1 }
      if dy.magnitude <= limits[k] { counts[6 + k] += 1 }
    }
    guard dx != 0, dy != 0 else { continue }
    counts[12] += 1
    if (dx < 0) != (dy < 0) { counts[13] += 1 }
  }
}

func collectBetween_bf16(
  _ found: UnsafeMutablePointer<UInt32>, _ above: UnsafeMutablePointer<Int>,
  _ x: KernelTable.In16, _ b: KernelTable.In16, _ n: Int, _ first: UInt32, _ last: UInt32
) -> Int {
  var count = 0
  for i in 0..<n {
    let size = delta(x, b, i).magnitude.bitPattern
    if size >> 16 > last { above[0] += 1 }
    guard (first...last).contains(size >> 16) else { continue }
    found[count] = size
    count += 1
  }
  return count
}

func drawSums_bf16(
  _ bits: UnsafeMutablePointer<UInt8>, _ sums: UnsafeMutablePointer<Double>,
  _ x: KernelTable.In16, _ b: KernelTable.In16, _ n: Int, _ key: UInt64, _ first: Int,
  _ limit: UInt64
) {
  draw_bits(bits, n, key, first, limit)
  for i in 0..<n {
    let size = Double(delta(x, b, i).magnitude)
    sums[0] += size
    if bits[i / 8] >> (i % 8) & 1 == 1 { sums[1] += size }
  }
}

func agree_bf16(
  _ r: KernelTable.Out16, _ x: KernelTable.In16, _ y: KernelTable.In16, _ b: KernelTable.In16,
  _ w: KernelTable.In, _ votes: KernelTable.In, _ floors: KernelTable.In,
  _ factors: KernelTable.In, _ keptX: UnsafePointer<UInt8>?, _ keptY: UnsafePointer<UInt8>?,
  _ normalize: Int, _ lambda: Float, _ limit: Float, _ squares: UnsafeMutablePointer<Double>,
  _ n: Int
) -> Int {
  var beyond = 0
  for i in 0..<n {
    func entry(_ branch: KernelTable.In16, _ m: Int, _ kept: UnsafePointer<UInt8>?) -> Float {
      let d = delta(branch, b, i)
      if let kept, kept[i / 8] >> (i % 8) & 1 == 0 { return 0 }
      return d.magnitude < floors[m] ? 0 : d * factors[m]
    }
    let hasBits = keptX != nil && keptY != nil
    let entries = (entry(x, 0, hasBits ? keptX : nil), entry(y, 1, hasBits ? keptY : nil))
    let value = withUnsafePointer(to: entries.0) { first in
      withUnsafePointer(to: entries.1) { second in
        var merged: Float = 0
        agree_f32(&merged, [first, second], w, votes, [0, 0], 2, normalize, lambda, 1)
        return merged
      }
    }
    beyond += withUnsafePointer(to: value) { finish_bf16(r + i, $0, b + i, limit, squares, 1) }
  }
  return beyond
}
