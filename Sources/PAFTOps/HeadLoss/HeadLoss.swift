// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

/// The output head fused with the log-probability of each row's target, as attention over the
/// vocabulary: logits exist only as one tile per worker.
///
/// A row is one position that has a label: callers gather the hidden states h of such rows first,
/// so unlabelled tokens never reach the head. With z = h Wᵀ and t the row's target,
///
///     logp     = -softplus(r - z_t)              r = log sum_{v != t} exp(z_v), the rivals
///     dlogp/dh = (1 - p_t) (W_t - sum_{v != t} q_v W_v)     q = softmax over the rivals
///
/// and 1 - p_t = sigmoid(r - z_t). The slope dlogp/dh does not depend on the loss: every loss here
/// is a function of the rows' logp, so dL/dh = (dL/dlogp) (dlogp/dh), one multiplication per value
/// once dL/dlogp is known. One walk over the vocabulary therefore serves forward and backward, with
/// two products and nothing computed twice (`HeadSweep`).
///
/// The target is left out of the sums because p_t near 1 would otherwise make logp, 1 - p_t and the
/// slope small differences of large numbers; so they keep their relative accuracy.
package enum HeadLoss {
  /// What a walk leaves for each row.
  package struct Rows {
    package let logp: UnsafeMutablePointer<Float>
    /// Log-sum-exp over the whole vocabulary.
    package let lse: UnsafeMutablePointer<Float>
    /// 1 where the target is the most probable token; among equals the first one counts.
    package let correct: UnsafeMutablePointer<UInt8>
    /// dlogp/dhidden [rows, D]; nil where no gradient is wanted.
    package let slopes: Matrix?
    /// What a gradient of the head that is made later need not compute again.
    private(set) var kept: KeptExponentials?

    /// - Parameter slopes: their width D; nil for none.
    package init(in arena: Arena, count: Int, slopes: Int? = nil) {
      logp = arena.allocate(Float.self, count: max(1, count))
      lse = arena.allocate(Float.self, count: max(1, count))
      correct = arena.allocate(UInt8.self, count: max(1, count))
      self.slopes = slopes.map { Matrix(in: arena, rows: count, columns: $0) }
    }

    init(
      logp: UnsafeMutablePointer<Float>, lse: UnsafeMutablePointer<Float>,
      correct: UnsafeMutablePointer<UInt8>, slopes: Matrix?, kept: KeptExponentials? = nil
    ) {
      self.logp = logp
      self.lse = lse
      self.correct = correct
      self.slopes = slopes
      self.kept = kept
    }

    /// Whether so many rows may keep their exponentials: one chunk's at most.
    static func keeps(_ count: Int, vocabulary: Int, _ type: ComputeType, _ tile: Tile) -> Bool {
      count > 0 && count <= KeptExponentials.rows(vocabulary: vocabulary, type, tile)
        && count <= HeadSweep.walkRows
    }

    /// These rows with room for the exponentials of a walk that is to come, if they are few enough.
    package func keepingExponentials(
      _ count: Int, of head: PackedWeight, in arena: Arena, on executor: Executor
    ) -> Rows {
      guard
        Self.keeps(count, vocabulary: head.outputs, executor.compute, executor.tile)
      else { return self }
      var rows = self
      rows.kept = KeptExponentials(
        rows: count, vocabulary: head.outputs, type: executor.compute, in: arena)
      return rows
    }

    func rows(_ range: Range<Int>) -> Rows {
      Rows(
        logp: logp + range.lowerBound, lse: lse + range.lowerBound,
        correct: correct + range.lowerBound, slopes: slopes?.rows(range), kept: kept)
    }
  }

  /// Fills `rows` for hidden [rows, D] and the head W[V, D], slopes included where `rows` has them.
  /// `cap` holds the logits.
  package static func forward(
    hidden: Matrix, head: PackedWeight, targets: UnsafePointer<Int32>, rows: Rows,
    cap: Softcap? = nil, on executor: Executor
  ) {
    let span = executor.begin(
      .loss(
        hidden, head, rows.slopes == nil ? .score : .frozen, products: rows.slopes == nil ? 1 : 2,
        trained: false, executor.compute))
    defer { executor.end(span) }
    chunks(hidden.rows, of: HeadSweep.walkRows, on: executor) { range, scratch in
      let rows = rows.rows(range)
      let sweep = HeadSweep(
        Linear.pack(hidden.rows(range), in: scratch, on: executor), head,
        targets + range.lowerBound, slopes: rows.slopes, kept: rows.kept, cap: cap, in: scratch,
        workers: executor.workers)
      sweep.run(on: executor)
      sweep.finish(rows, on: executor)
    }
  }

  /// dhidden = coefficients * slopes, row by row, with coefficients = dL/dlogp. `dhidden` may be the
  /// slopes themselves.
  package static func backward(
    rows: Rows, coefficients: UnsafePointer<Float>, dhidden: Matrix, on executor: Executor
  ) {
    let span = executor.begin(
      .rows(.loss, dhidden.rows, dhidden.columns, .backward, bytesEach: Work.Each.update))
    defer { executor.end(span) }
    guard let slopes = rows.slopes else {
      preconditionFailure("these rows were scored without slopes")
    }
    executor.parallel(dhidden.rows, grain: 16) { range in
      for row in range {
        let to = dhidden.row(row)
        if to != slopes.row(row) { to.update(from: slopes.row(row), count: slopes.columns) }
        executor.kernels.vectors.scale_f32(to, coefficients[row], slopes.columns)
      }
    }
  }

  /// Upper bound of the scratch beyond a few floats per row and value of hidden, for plans of memory:
  /// what each worker needs, and all together.
  package static func scratchFloats(hidden: Int) -> (worker: Int, shared: Int) {
    // Logits, their slopes and their packed copy; a block of rows may end with a partial panel.
    let rows = max(HeadSweep.blockRows, weightRows) + 16
    let worker =
      rows * (3 * HeadSweep.tileColumns + 32) + hidden + HeadSweep.tileColumns * 64 + 4096
    return (worker, HeadSweep.mostSegments * HeadSweep.walkRows * hidden + 2 * keptBytes / 4)
  }

  static func chunks(
    _ count: Int, of size: Int, on executor: Executor, _ body: (Range<Int>, Arena) -> Void
  ) {
    var first = 0
    while first < count {
      let range = first..<min(count, first + size)
      executor.withScratch { body(range, $0) }
      first = range.upperBound
    }
  }
}
