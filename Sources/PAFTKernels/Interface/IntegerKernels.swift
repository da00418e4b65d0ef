// SPDX-License-Identifier: Apache-2.0

/// Products of 8-bit integers: activations quantised by row, weights by output channel.
///
/// A row of activations x (m rows of k) is a * q with a = max|x| / 127 and q in -127...127; it is
/// stored as the unsigned u = q + 128, because the product instruction takes unsigned times signed.
/// A weight channel is s * w, w in -127...127. Then
///   C[m, n] = a[m] * s[n] * (sum over k of u*w - 128 * sum over k of w)
/// where everything in parentheses is exact in Int32 for k up to `maximumDepth`, so all tables give
/// the same bits.
///
/// Packed layouts (the table that packs is the table that multiplies), quads of four along k:
///   A panel: [ceil(k/4)][MR][4] bytes u; missing rows and values are 128, the number zero.
///   B panel: [ceil(k/4)][W][4] bytes w; W: valid columns rounded up to `tile.lanes`. Missing
///   columns and values are zeros: they cancel whatever stands in A beside them.
package struct IntegerKernels: Sendable {
  package typealias In = KernelTable.In
  package typealias Out = KernelTable.Out
  package typealias Unsigned = UnsafePointer<UInt8>
  package typealias Signed = UnsafePointer<Int8>
  package typealias Sums = UnsafePointer<Int32>

  /// 127 * 127 * k stays below 2^31. On the way there sums may wrap, which changes nothing.
  package static let maximumDepth = 133_143
  /// Magnitudes below it count as zero: 127 divided by one would be infinite.
  package static let smallest: Float = 0x1p-119

  package var tile: Tile

  /// One slice of k of a strip of C: one B panel, 1 <= columns <= NR, against `rows` rows of packed A,
  /// any number of them, in panels `aStride` bytes apart.
  ///
  /// The Int32 sums start from `start`, rows `startStride` apart: the panel's row of compensation
  /// (stride 0) in the first slice, what the last slice left (stride W) in a later one. They go to
  /// `partial`, if there is one, rows of W, where those beyond the valid ones mean nothing; `start` and
  /// `partial` may be the same, and both have whole panels of rows. Else they go to C, rows `ldc` apart:
  ///   C = float(sum) * rowScale[row], times columnScale[column] if given, + bias[column] if given
  /// (rounded once with that product), + C if `accumulate` != 0. Only the valid part of C is read
  /// and written, and only valid scales and biases are read.
  /// Beside panel i it prefetches `lines` cache lines from `ahead + i * aheadStep` bytes on, as the
  /// strips of Floats do.
  package var strip_u8s8:
    @convention(c) (
      _ a: Unsigned, _ aStride: Int, _ b: Signed, _ k: Int, _ start: Sums, _ startStride: Int,
      _ partial: UnsafeMutablePointer<Int32>?, _ c: Out, _ ldc: Int, _ rows: Int, _ columns: Int,
      _ rowScale: In, _ columnScale: In?, _ bias: In?, _ accumulate: Int,
      _ ahead: UnsafeRawPointer, _ aheadStep: Int, _ lines: Int
    ) -> Void

  // MARK: quantisation

  /// One A panel from row-major [rows, k], rows <= MR, each value times columns[its column] if
  /// given. scale[row] = max/127 and u = 128 + round(value * (127/max)), ties to even. A row of
  /// zeros has scale 0; a row with a value that is not finite has scale NaN and any bytes.
  package var quantizeA_u8:
    @convention(c) (
      _ dst: UnsafeMutablePointer<UInt8>, _ scale: Out, _ src: In, _ columns: In?, _ rows: Int,
      _ k: Int, _ stride: Int
    ) -> Void
  /// The same of y = x * r * w, r = 1/sqrt(mean(x^2) + eps) to `inverse[row]`, without y: r is
  /// positive and constant in a row, so it changes the scale and not the bytes. k >= 1.
  package var quantizeNormA_u8:
    @convention(c) (
      _ dst: UnsafeMutablePointer<UInt8>, _ scale: Out, _ inverse: Out, _ src: In, _ w: In,
      _ rows: Int, _ k: Int, _ stride: Int, _ eps: Float
    ) -> Void
  /// scale[row] as `quantizeA_u8` has it, and inverse[row] = 127/max (0 where scale is 0 or NaN).
  package var quantizers_f32:
    @convention(c) (
      _ scale: Out, _ inverse: Out, _ src: In, _ rows: Int, _ k: Int, _ stride: Int
    ) -> Void
  /// One B panel of round(src * inverse[column]) from a source stored [columns, k] (a weight
  /// [out, in] for the forward pass); columns <= NR.
  package var packBT_s8:
    @convention(c) (
      _ dst: UnsafeMutablePointer<Int8>, _ src: In, _ inverse: In, _ columns: Int, _ k: Int,
      _ stride: Int
    ) -> Void
  /// One B panel of round(src * inverse[row of k]) from a source stored [k, columns] (the same
  /// weight for the input gradient); columns <= NR. The bytes are those of `packBT_s8`.
  package var packB_s8:
    @convention(c) (
      _ dst: UnsafeMutablePointer<Int8>, _ src: In, _ inverse: In, _ columns: Int, _ k: Int,
      _ stride: Int
    ) -> Void
  /// A part of a B panel out of one that holds the same bytes the other way round, as
  /// `GEMMKernels.turnB_bf16`; k begins at a multiple of four and is padded to one, no further.
  package var turnB_s8:
    @convention(c) (
      _ dst: UnsafeMutablePointer<Int8>, _ src: Signed, _ columns: Int, _ k: Int,
      _ ahead: UnsafeRawPointer
    ) -> Void
  /// What the sums of a B panel start from: -128 times each column's sum, W values.
  package var compensation_s8:
    @convention(c) (
      _ sums: UnsafeMutablePointer<Int32>, _ b: Signed, _ columns: Int, _ k: Int
    ) -> Void
}
