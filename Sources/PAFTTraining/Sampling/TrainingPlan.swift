// SPDX-License-Identifier: Apache-2.0

package import PAFTBase

/// How rows (sequences or pairs) become optimizer steps: every epoch is cut into windows of
/// batch_size * gradient_accumulation_steps rows, the last one shorter, and each window is one step.
/// Windows never cross an epoch, so a step's place in the data is arithmetic and resuming needs no
/// replay.
package struct TrainingPlan: Sendable, Equatable {
  /// Where a step stands: `epoch`, and the rows `start ..< start + count` of that epoch's order.
  package struct Cursor: Sendable, Equatable {
    package let epoch: Int
    package let start: Int
    package let count: Int
  }

  package let rows: Int
  package let batchSize: Int
  package let accumulation: Int
  package let totalSteps: Int

  /// `epochs` may be a fraction (rounded up to whole steps); `maxSteps` wins over it.
  package init(
    rows: Int, batchSize: Int, accumulation: Int = 1, epochs: Double = 1, maxSteps: Int? = nil
  ) throws(Fault) {
    guard rows > 0, rows <= Int(Int32.max) else {
      throw Fault(
        .data, "training data: found \(rows) usable rows, expected 1 to \(Int32.max)")
    }
    guard batchSize > 0 else {
      throw Fault(.configuration, "batch_size: found \(batchSize), expected at least 1")
    }
    guard accumulation > 0 else {
      throw Fault(
        .configuration, "gradient_accumulation_steps: found \(accumulation), expected at least 1")
    }
    let (window, overflow) = batchSize.multipliedReportingOverflow(by: accumulation)
    guard !overflow else {
      throw Fault(.configuration, "batch_size * gradient_accumulation_steps is out of range")
    }
    guard epochs.isFinite, epochs > 0 || maxSteps != nil else {
      throw Fault(.configuration, "epochs: found \(epochs), expected a number > 0")
    }
    self.rows = rows
    self.batchSize = batchSize
    self.accumulation = accumulation
    if let maxSteps {
      guard maxSteps > 0 else {
        throw Fault(.configuration, "max_steps: found \(maxSteps), expected at least 1")
      }
      totalSteps = maxSteps
    } else {
      let perEpoch = (rows - 1) / window + 1
      let steps = (epochs * Double(perEpoch)).rounded(.up)
      guard steps < 0x1p53 else {
        throw Fault(
          .configuration, "epochs: found \(epochs), expected fewer than 2^53 steps in all")
      }
      totalSteps = Int(steps)
    }
  }

  /// Rows of a full step.
  package var window: Int { batchSize * accumulation }
  package var stepsPerEpoch: Int { (rows - 1) / window + 1 }

  /// The place of step `step` (0-based) in the data.
  package func cursor(_ step: Int) -> Cursor {
    let (epoch, index) = step.quotientAndRemainder(dividingBy: stepsPerEpoch)
    let start = index * window
    return Cursor(epoch: epoch, start: start, count: min(window, rows - start))
  }

  /// Epochs completed after `steps` steps, as logs show it.
  package func epoch(after steps: Int) -> Double {
    let at = cursor(steps)
    return Double(at.epoch) + Double(at.start) / Double(rows)
  }
}
