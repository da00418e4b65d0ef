// SPDX-License-Identifier: Apache-2.0

// From Float to the panels of bytes of the matrix tile (layouts: IntegerMatrixTile.swift). A row is
// read for its largest magnitude and converted at once, from the first-level cache: nothing has to
// be gathered from several rows. Needs 16 lanes.

@_alwaysEmitIntoClient @inline(__always)
package func quantizeMatrixA_u8<I: ByteVectors>(
  _: I.Type, _ dst: UnsafeMutablePointer<UInt8>, _ scale: UnsafeMutablePointer<Float>,
  _ src: UnsafePointer<Float>, _ columns: UnsafePointer<Float>?, _ rows: Int, _ k: Int,
  _ stride: Int
) {
  for r in 0..<matrixTile {
    var inverse: Float = 0
    if r < rows {
      let found = quantizer(magnitude(I.self, src + r &* stride, columns, k))
      scale[r] = found.scale
      inverse = found.inverse
    }
    let from = r < rows ? src + r &* stride : src
    quantizeRow(I.self, dst + 64 &* r, from, columns, inverse, r < rows ? k : 0, k)
  }
}

@_alwaysEmitIntoClient @inline(__always)
package func quantizeMatrixNormA_u8<I: ByteVectors>(
  _: I.Type, _ dst: UnsafeMutablePointer<UInt8>, _ scale: UnsafeMutablePointer<Float>,
  _ inverses: UnsafeMutablePointer<Float>, _ src: UnsafePointer<Float>,
  _ w: UnsafePointer<Float>, _ rows: Int, _ k: Int, _ stride: Int, _ eps: Float
) {
  for r in 0..<matrixTile {
    var inverse: Float = 0
    if r < rows {
      let found = normQuantizer(I.self, src + r &* stride, w, k, eps)
      inverses[r] = found.inverseRoot
      scale[r] = found.scale * found.inverseRoot
      inverse = found.inverse
    }
    quantizeRow(
      I.self, dst + 64 &* r, r < rows ? src + r &* stride : src, w, inverse, r < rows ? k : 0, k)
  }
}

/// One row of a panel of depth `k`: 128 + round(x * columns * inverse) of its `valid` values, else 128.
@_alwaysEmitIntoClient @inline(__always)
package func quantizeRow<I: ByteVectors>(
  _: I.Type, _ dst: UnsafeMutablePointer<UInt8>, _ x: UnsafePointer<Float>,
  _ columns: UnsafePointer<Float>?, _ inverse: Float, _ valid: Int, _ k: Int
) {
  let factor = I.splat(inverse)
  let zero = I.splatInteger(0)
  var p = 0
  while p < k {
    let to = dst + p &* matrixTile
    var i = 0
    while i < 64 {
      let count = valid &- p &- i < I.lanes ? valid &- p &- i : I.lanes
      var bytes = zero
      if count > 0 {
        var value = I.load(x + (p &+ i), count)
        if let columns { value = I.mul(value, I.load(columns + (p &+ i), count)) }
        bytes = I.integer(I.mul(value, factor))
      }
      I.storeFlipped(to + i, bytes)
      i &+= I.lanes
    }
    p &+= 64
  }
}

/// Zeros behind the quads of a B panel, up to a multiple of 64 values of k.
@_alwaysEmitIntoClient @inline(__always)
package func padMatrixB_s8<I: ByteVectors>(
  _: I.Type, _ dst: UnsafeMutablePointer<Int8>, _ columns: Int, _ k: Int
) {
  let width = panelWidth(I.self, columns)
  let zero = I.packQuads(I.splatInteger(0), I.splatInteger(0), I.splatInteger(0), I.splatInteger(0))
  var at = ((k &+ 3) & ~3) &* width
  let end = ((k &+ 63) & ~63) &* width
  while at < end {
    I.storeQuads(dst + at, zero)
    at &+= 4 &* I.lanes
  }
}
