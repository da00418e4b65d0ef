// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMachine

/// The gradients of a head and of an embedding, perhaps one matrix, some rows of the vocabulary at a
/// time: for whoever uses a row's gradient once and has no room for all, a third of a small model. Where
/// the walk has not kept its exponentials, the logits are computed again.
package struct VocabularyGradient {
  /// Where the head is trained: what its walk left.
  package struct Head {
    let normed: Matrix
    let weight: PackedWeight
    let targets: UnsafePointer<Int32>
    let rows: HeadLoss.Rows
    let coefficients: UnsafePointer<Float>
    let cap: Softcap?

    /// - Parameters:
    ///   - normed: the rows that the head multiplied.
    ///   - rows: filled by `HeadLoss.forward` over them.
    ///   - coefficients: dL/dlogp.
    package init(
      normed: Matrix, weight: PackedWeight, targets: UnsafePointer<Int32>, rows: HeadLoss.Rows,
      coefficients: UnsafePointer<Float>, cap: Softcap?
    ) {
      self.normed = normed
      self.weight = weight
      self.targets = targets
      self.rows = rows
      self.coefficients = coefficients
      self.cap = cap
    }
  }

  /// Where the embedding is trained: the tokens and the gradient of what was gathered for them.
  package struct Tokens {
    let ids: UnsafePointer<Int32>
    let dx: Matrix

    package init(ids: UnsafePointer<Int32>, dx: Matrix) {
      self.ids = ids
      self.dx = dx
    }
  }

  /// Rows of the vocabulary at a time.
  package static var rows: Int { HeadSweep.tileColumns }

  package static func tiles(_ vocabulary: Int) -> Int { (vocabulary + rows - 1) / rows }

  /// Hands every block of rows with its gradient [rows, hidden] to one worker.
  package static func run(
    _ head: Head?, _ tokens: Tokens?, vocabulary: Int, hidden: Int, on executor: Executor,
    _ body: (_ tile: Int, Range<Int>, UnsafeMutablePointer<Float>, _ worker: Int) -> Void
  ) {
    let span = executor.begin(
      head.map {
        .loss(
          $0.normed, $0.weight, .wgrad, products: $0.rows.kept == nil ? 2 : 1, trained: true,
          executor.compute)
      } ?? .rows(.embedding, vocabulary, hidden, .backward, bytesEach: Work.Each.update))
    defer { executor.end(span) }
    executor.withScratch { scratch in
      let gradient = head.map { head in
        HeadWeightGradient(
          x: Linear.pack(head.normed, in: scratch, on: executor), hidden: head.normed,
          head: head.weight, targets: head.targets, rows: head.rows,
          coefficients: head.coefficients, kept: head.rows.kept, cap: head.cap, in: scratch,
          on: executor)
      }
      let buffers = scratch.allocate(Float.self, count: executor.workers * rows * hidden)
      executor.run { worker in
        for tile in Executor.share(
          of: tiles(vocabulary), worker: worker, workers: executor.workers, grain: 1)
        {
          let range = tile * rows..<min(vocabulary, (tile + 1) * rows)
          let part = Matrix(buffers + worker * rows * hidden, rows: range.count, columns: hidden)
          part.base.update(repeating: 0, count: range.count * hidden)
          gradient?.add(tile, worker: worker, into: part, executor.kernels)
          if let tokens {
            for row in 0..<tokens.dx.rows where range.contains(Int(tokens.ids[row])) {
              executor.kernels.vectors.axpy_f32(
                part.row(Int(tokens.ids[row]) - range.lowerBound), tokens.dx.row(row), 1, hidden)
            }
          }
          body(tile, range, part.base, worker)
        }
      }
    }
  }
}
