// SPDX-License-Identifier: Apache-2.0

let referenceSums = 12

func peak_f32(
  _ sums: UnsafeMutablePointer<Float>, _ x: UnsafePointer<Float>, _ y: UnsafePointer<Float>,
  _ rounds: Int
) {
  let lanes = referenceTile.lanes
  for _ in 0..<rounds {
    for i in 0..<referenceSums * lanes {
      sums[i] = Float(Double(x[i % lanes]) * Double(y[i % lanes]) + Double(sums[i]))
    }
  }
}

func peak_bf16(
  _ sums: UnsafeMutablePointer<Float>, _ x: UnsafePointer<UInt16>, _ y: UnsafePointer<UInt16>,
  _ rounds: Int
) {
  let lanes = referencePairTile.lanes
  func value(_ p: UnsafePointer<UInt16>, _ i: Int) -> Double {
    Double(Float(bitPattern: UInt32(p[i]) << 16))
  }
  for _ in 0..<rounds {
    for i in 0..<referenceSums * lanes {
      let at = 2 * (i % lanes)
      sums[i] = Float(
        value(x, at) * value(y, at) + value(x, at + 1) * value(y, at + 1) + Double(sums[i]))
    }
  }
}

func peak_u8s8(
  _ sums: UnsafeMutablePointer<Int32>, _ x: UnsafePointer<UInt8>, _ y: UnsafePointer<Int8>,
  _ rounds: Int
) {
  let lanes = referenceTile.lanes
  for _ in 0..<rounds {
    for i in 0..<referenceSums * lanes {
      let at = 4 * (i % lanes)
      for k in at..<at + 4 { sums[i] &+= Int32(x[k]) &* Int32(y[k]) }
    }
  }
}

func read_f32(_ x: UnsafePointer<Float>, _ n: Int) -> Float {
  var sum = 0.0
  for i in 0..<n { sum += Double(x[i]) }
  return Float(sum)
}
