// SPDX-License-Identifier: Apache-2.0

/// Merging of models, on blocks that stay in the second-level cache: deltas, what is counted of them,
/// how they are thinned out and put together. Products and sums of entries are rounded one by one and
/// never fused, so that every table gives the same bits. Vectors do not overlap unless they are named
/// by one pointer.
package struct MergingKernels: Sendable {
  package typealias In = KernelTable.In
  package typealias Out = KernelTable.Out
  package typealias In16 = KernelTable.In16

  // MARK: deltas

  /// d = x - b.
  package var difference_f32: @convention(c) (_ d: Out, _ x: In, _ b: In, _ n: Int) -> Void
  /// d = x - b, both BF16, widened first.
  package var difference_bf16: @convention(c) (_ d: Out, _ x: In16, _ b: In16, _ n: Int) -> Void
  /// The same of IEEE half precision.
  package var difference_f16: @convention(c) (_ d: Out, _ x: In16, _ b: In16, _ n: Int) -> Void
  /// y = x of IEEE half precision, exactly; a NaN becomes some quiet NaN.
  package var fromF16: @convention(c) (_ y: Out, _ x: In16, _ n: Int) -> Void
  /// y = x in half precision, to nearest even; from 65520 on infinite, a NaN becomes some quiet NaN.
  package var toF16: @convention(c) (_ y: KernelTable.Out16, _ x: In, _ n: Int) -> Void
  /// y += x.
  package var add_f32: @convention(c) (_ y: Out, _ x: In, _ n: Int) -> Void

  // MARK: counts

  // Of at most 2^24 entries a call.

  /// How many entries are beyond the limit or NaN: not |x| <= limit.
  package var countBeyond_f32: @convention(c) (_ x: In, _ limit: Float, _ n: Int) -> Int
  /// counts[k] += how many entries have |x| <= limits[k], for k < `limitCount`.
  package var countWithin_f32:
    @convention(c) (
      _ counts: UnsafeMutablePointer<Int>, _ x: In, _ n: Int, _ limits: In, _ limitCount: Int
    ) -> Void
  /// counts[0] += how many entries neither x nor y has at zero, counts[1] += of these, how many have
  /// opposite signs.
  package var countSigns_f32:
    @convention(c) (_ counts: UnsafeMutablePointer<Int>, _ x: In, _ y: In, _ n: Int) -> Void
  /// What a report wants of one delta, in one walk: squares[0] += SUM x^2 in Double, counts as in
  /// `countWithin_f32`. Where an entry is not finite, squares[0] is not either.
  package var measure_f32:
    @convention(c) (
      _ squares: UnsafeMutablePointer<Double>, _ counts: UnsafeMutablePointer<Int>, _ x: In,
      _ n: Int, _ limits: In, _ limitCount: Int
    ) -> Void
  /// And of two: dot[0] += SUM x*y in Double, counts as in `countSigns_f32`.
  package var relate_f32:
    @convention(c) (
      _ dot: UnsafeMutablePointer<Double>, _ counts: UnsafeMutablePointer<Int>, _ x: In, _ y: In,
      _ n: Int
    ) -> Void
  /// counts[b >> 16] += 1 for the bits b of every |x|; 32768 counts.
  package var histogram_f32:
    @convention(c) (_ counts: UnsafeMutablePointer<UInt32>, _ x: In, _ n: Int) -> Void
  /// The lower 16 bits of the entries whose |x| has the upper ones `prefix`, in order; returns how many.
  /// `found` has room for n, all of which may be written.
  package var collect_f32:
    @convention(c) (
      _ found: UnsafeMutablePointer<UInt16>, _ x: In, _ n: Int, _ prefix: UInt32
    ) -> Int

  /// The magnitudes whose upper 16 bits are within first...last, as bits, in order; returns how many.
  /// `above` += how many are beyond them. `found` has room for n + 15, all of which may be written.
  package var collectBetween_f32:
    @convention(c) (
      _ found: UnsafeMutablePointer<UInt32>, _ above: UnsafeMutablePointer<Int>, _ x: In, _ n: Int,
      _ first: UInt32, _ last: UInt32
    ) -> Int

  // MARK: thinning

  /// x = 0 where |x| < floor.
  package var cut_f32: @convention(c) (_ x: Out, _ floor: Float, _ n: Int) -> Void
  /// x[i] = 0 unless CounterRandom(key).word(first + i) is below `limit`, which is at most 2^32: an entry
  /// stays with probability limit / 2^32.
  package var thin_f32:
    @convention(c) (_ x: Out, _ n: Int, _ key: UInt64, _ first: Int, _ limit: UInt64) -> Void

  /// The same draws from an even `first` on, as bits to keep: bit i % 8 of bits[i / 8] is set where entry i
  /// stays, and bits beyond n in the last byte are 0.
  package var draw_bits:
    @convention(c) (
      _ bits: UnsafeMutablePointer<UInt8>, _ n: Int, _ key: UInt64, _ first: Int, _ limit: UInt64
    ) -> Void
  /// x = 0 where its bit is not set.
  package var keep_f32: @convention(c) (_ x: Out, _ bits: UnsafePointer<UInt8>, _ n: Int) -> Void

  // MARK: combining

  /// y = SUM w[m] * x[m] over m < `models`, in this order, starting from 0.
  package var combine_f32:
    @convention(c) (
      _ y: Out, _ x: UnsafePointer<In>, _ w: In, _ models: Int, _ n: Int
    ) -> Void
  /// TIES: S = -1 where SUM votes[m] * x[m] < 0, else 1; of the models with votes[m] * x[m] * S > 0
  ///
  ///     y = lambda * SUM w[m] * x[m] / divisor,   divisor = SUM votes[m], 1 where that is 0,
  ///
  /// and without the division unless `normalize` != 0. A model's entries with |x| < floors[m] count as
  /// zeros.
  package var agree_f32:
    @convention(c) (
      _ y: Out, _ x: UnsafePointer<In>, _ w: In, _ votes: In, _ floors: In, _ models: Int,
      _ normalize: Int, _ lambda: Float, _ n: Int
    ) -> Void

  // MARK: two branches of one base, all BF16

  // Straight from what the files hold, for the two branches x and y of a base b, whose deltas are
  // dx = x - b and dy = y - b: nothing but the result is stored. The same bits as by way of Floats.

  /// What a report wants of both deltas and their relation, in one walk: sums[0...2] += SUM dx^2, dy^2 and
  /// dx*dy in Double; counts[k] and counts[6 + k] += how many |dx| and |dy| are <= limits[k], of six;
  /// counts[12] and counts[13] as in `countSigns_f32`. Where a delta is not finite, its square is not
  /// either.
  package var survey_bf16:
    @convention(c) (
      _ sums: UnsafeMutablePointer<Double>, _ counts: UnsafeMutablePointer<Int>, _ x: In16,
      _ y: In16, _ b: In16, _ n: Int, _ limits: In
    ) -> Void
  /// `collectBetween_f32` of x - b.
  package var collectBetween_bf16:
    @convention(c) (
      _ found: UnsafeMutablePointer<UInt32>, _ above: UnsafeMutablePointer<Int>, _ x: In16,
      _ b: In16, _ n: Int, _ first: UInt32, _ last: UInt32
    ) -> Int
  /// `draw_bits`, and sums[0] += SUM |x - b|, sums[1] += the part of it that is kept, in Double.
  package var drawSums_bf16:
    @convention(c) (
      _ bits: UnsafeMutablePointer<UInt8>, _ sums: UnsafeMutablePointer<Double>, _ x: In16,
      _ b: In16, _ n: Int, _ key: UInt64, _ first: Int, _ limit: UInt64
    ) -> Void
  /// `agree_f32` of the two deltas and `finish_bf16` of its result: r = b + delta. Of each branch (the
  /// first and second of `w`, `votes`, `floors` and `factors`) an entry d counts as factor * d, and as
  /// zero where |d| < floor or, with bits to keep for both, where its bit is not set.
  package var agree_bf16:
    @convention(c) (
      _ r: KernelTable.Out16, _ x: In16, _ y: In16, _ b: In16, _ w: In, _ votes: In, _ floors: In,
      _ factors: In, _ keptX: UnsafePointer<UInt8>?, _ keptY: UnsafePointer<UInt8>?,
      _ normalize: Int, _ lambda: Float, _ limit: Float, _ squares: UnsafeMutablePointer<Double>,
      _ n: Int
    ) -> Int

  // MARK: the result

  /// y = x + b as BF16, to nearest even; squares[0] += SUM x^2, in Double. Returns how many x + b are
  /// beyond the limit or NaN.
  package var finish_bf16:
    @convention(c) (
      _ y: KernelTable.Out16, _ x: In, _ b: In16, _ limit: Float,
      _ squares: UnsafeMutablePointer<Double>, _ n: Int
    ) -> Int
}
