// SPDX-License-Identifier: Apache-2.0

/// Micro-tiles of a matrix product and the packing of their operands.
///
/// Shapes: `m` rows (tokens), `n` columns, `k` reduced dimension. In bf16 compute the operands are
/// rounded to BF16 while they are packed and products accumulate in Float.
///
/// Packed layouts (the table that packs is the table that multiplies):
///   A panel: `tile.rows` (MR) rows. Float: [k][MR]. BF16: [ceil(k/2)][MR][2], the pair runs along k.
///   B panel: up to `tile.columns` (NR) columns; its stored width W is the number of valid columns
///   rounded up to `tile.lanes`. Float: [k][W]. BF16: [ceil(k/2)][W][2].
///   On a tile unit (`tile_bf16.depth` 32) A is [ceil(k/32)][MR][32], and B goes on to that k.
///   Missing rows, columns and what k is short of are zeros, so a tile never reads what was not written.
package struct GEMMKernels: Sendable {
  package typealias In = KernelTable.In
  package typealias Out = KernelTable.Out
  package typealias In16 = KernelTable.In16
  package typealias Out16 = KernelTable.Out16

  package var tile_f32: Tile
  package var tile_bf16: Tile

  /// C[rows, columns] = alpha * A·B (+ C when `accumulate` != 0), row stride `ldc`.
  /// 1 <= rows <= MR, 1 <= columns <= NR, k >= 0. Only the valid part of C is read and written.
  package var multiply_f32:
    @convention(c) (
      _ a: In, _ b: In, _ c: Out, _ k: Int, _ ldc: Int, _ rows: Int, _ columns: Int,
      _ alpha: Float, _ accumulate: Int
    ) -> Void
  /// The same with BF16 operands and Float accumulation. The pair instruction of `avx512bf16` takes
  /// subnormal operands as zero and flushes subnormal sums, so tables agree to rounding, not in bits.
  package var multiply_bf16:
    @convention(c) (
      _ a: In16, _ b: In16, _ c: Out, _ k: Int, _ ldc: Int, _ rows: Int, _ columns: Int,
      _ alpha: Float, _ accumulate: Int
    ) -> Void

  /// A strip of C: one B panel against `rows` rows of packed A, any number of them, in panels
  /// `aStride` elements apart. C[rows, columns] = alpha * A·B + D, where D is absent (nil), C itself
  /// or a matrix apart from it with row stride `ldAddend`: 0 adds one row (a bias) to all.
  ///
  /// Beside panel i it prefetches `lines` cache lines from `ahead + i * aheadStep` bytes on, evenly
  /// over k (fewer beside a panel of fewer rows); they need not be mapped.
  package var strip_f32:
    @convention(c) (
      _ a: In, _ aStride: Int, _ b: In, _ c: Out, _ k: Int, _ ldc: Int, _ rows: Int,
      _ columns: Int, _ alpha: Float, _ addend: In?, _ ldAddend: Int, _ ahead: UnsafeRawPointer,
      _ aheadStep: Int, _ lines: Int
    ) -> Void
  package var strip_bf16:
    @convention(c) (
      _ a: In16, _ aStride: Int, _ b: In16, _ c: Out, _ k: Int, _ ldc: Int, _ rows: Int,
      _ columns: Int, _ alpha: Float, _ addend: In?, _ ldAddend: Int, _ ahead: UnsafeRawPointer,
      _ aheadStep: Int, _ lines: Int
    ) -> Void

  /// The same strip where B comes from memory and is used once: it is read from front to back, a
  /// stretch at a time for all rows, and asked for ahead (which need not be mapped). The bits are
  /// those of the strip.
  package var fewRows_f32:
    @convention(c) (
      _ a: In, _ aStride: Int, _ b: In, _ c: Out, _ k: Int, _ ldc: Int, _ rows: Int,
      _ columns: Int, _ alpha: Float, _ addend: In?, _ ldAddend: Int
    ) -> Void
  package var fewRows_bf16:
    @convention(c) (
      _ a: In16, _ aStride: Int, _ b: In16, _ c: Out, _ k: Int, _ ldc: Int, _ rows: Int,
      _ columns: Int, _ alpha: Float, _ addend: In?, _ ldAddend: Int
    ) -> Void

  /// C[rows, 64] = L·X, or C + L·X when `accumulate` != 0, of operands as they lie, for factors that
  /// are used once: L's value (i, j) is l[i * lRow + j * lStep], X is [steps, 64]. Products are fused
  /// and summed in the order of `steps`, so L·X and its transpose by the transposed operands have the
  /// same bits. C does not overlap the others.
  package var multiplyUnpacked_f32:
    @convention(c) (
      _ c: Out, _ accumulate: Int, _ l: In, _ lRow: Int, _ lStep: Int, _ x: In, _ rows: Int,
      _ steps: Int
    ) -> Void
  package static let unpackedColumns = 64

  /// G[rank, columns] += alpha · LᵀX: the gradient of a thin factor, over `rows` rows. L[rows, rank] is
  /// a B panel of `tile_bf16` that `packB_bf16` made (k = rows, rank <= NR <= 64); X[rows, columns] lies as it
  /// is, rows `stride` Floats apart, and is rounded to BF16 on the way. Products are summed in Float in the
  /// order of rows. G's value (r, c) is g[r * ldg + c] or, with `turned` != 0, g[c * ldg + r]. `room`
  /// has `thinRoom` Floats of the caller's, which are overwritten.
  package var multiplyThin_bf16:
    @convention(c) (
      _ g: Out, _ ldg: Int, _ turned: Int, _ low: In16, _ x: In, _ rows: Int, _ columns: Int,
      _ stride: Int, _ rank: Int, _ alpha: Float, _ room: Out
    ) -> Void
  /// The same of an X in BF16, rows `stride` values apart.
  package var multiplyThinRounded_bf16:
    @convention(c) (
      _ g: Out, _ ldg: Int, _ turned: Int, _ low: In16, _ x: In16, _ rows: Int, _ columns: Int,
      _ stride: Int, _ rank: Int, _ alpha: Float, _ room: Out
    ) -> Void
  package static let thinRoom = 8192

  /// One A panel from row-major source [rows, k] with row stride `stride`; rows <= MR.
  package var packA_f32:
    @convention(c) (_ dst: Out, _ src: In, _ rows: Int, _ k: Int, _ stride: Int) -> Void
  package var packA_bf16:
    @convention(c) (_ dst: Out16, _ src: In, _ rows: Int, _ k: Int, _ stride: Int) -> Void
  /// A panels one after the other, from a source stored [k, rows] (transposed), row stride `stride`;
  /// any number of rows.
  package var packAT_f32:
    @convention(c) (_ dst: Out, _ src: In, _ rows: Int, _ k: Int, _ stride: Int) -> Void
  package var packAT_bf16:
    @convention(c) (_ dst: Out16, _ src: In, _ rows: Int, _ k: Int, _ stride: Int) -> Void
  /// One B panel from a source stored [k, columns] with row stride `stride`; columns <= NR.
  package var packB_f32:
    @convention(c) (_ dst: Out, _ src: In, _ columns: Int, _ k: Int, _ stride: Int) -> Void
  package var packB_bf16:
    @convention(c) (_ dst: Out16, _ src: In, _ columns: Int, _ k: Int, _ stride: Int) -> Void
  /// One B panel from a source stored [columns, k] (a weight [out, in]); columns <= NR.
  package var packBT_f32:
    @convention(c) (_ dst: Out, _ src: In, _ columns: Int, _ k: Int, _ stride: Int) -> Void
  package var packBT_bf16:
    @convention(c) (_ dst: Out16, _ src: In, _ columns: Int, _ k: Int, _ stride: Int) -> Void
  /// The way back: what `packBT_bf16` has packed as Floats [columns, k] with row stride `stride`.
  package var unpackBT_bf16:
    @convention(c) (_ dst: Out, _ src: In16, _ columns: Int, _ k: Int, _ stride: Int) -> Void

  /// A part of a B panel [k, columns] out of one that holds the same values the other way round: of a
  /// weight W[out, in], packed for the forward pass, a panel for the input gradient. `src` lies in a
  /// panel of `k` columns, at the part's first column along its reduced dimension; `dst` lies in a
  /// panel of `columns` columns, and k begins at an even one. k, columns <= NR. The bits are those that
  /// packing from W would give, padding of the reduced dimension included. As much as is read is
  /// asked for from `ahead` on, which need not be mapped.
  package var turnB_f32:
    @convention(c) (
      _ dst: Out, _ src: In, _ columns: Int, _ k: Int, _ ahead: UnsafeRawPointer
    ) -> Void
  package var turnB_bf16:
    @convention(c) (
      _ dst: Out16, _ src: In16, _ columns: Int, _ k: Int, _ ahead: UnsafeRawPointer
    ) -> Void
}
