// SPDX-License-Identifier: Apache-2.0

package import PAFTBase

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// The shape of the learning rate over a run, by the names transformers uses.
package enum Schedule: String, Sendable, CaseIterable {
  /// 1 throughout; ignores warm-up.
  case constant
  case constantWithWarmup = "constant_with_warmup"
  case linear
  case cosine

  package static func named(_ name: String) throws(Fault) -> Schedule {
    if let schedule = Schedule(rawValue: name) { return schedule }
    throw .unknown("lr_scheduler", name, among: allCases.map(\.rawValue))
  }
}

/// Learning rate as a function of the steps already taken: t/Tw while warming up, then (T-t)/(T-Tw)
/// or half a cosine down to 0 at t = T. The very first step of a warm-up has rate 0, as in
/// transformers.
package struct LearningRate: Sendable, Equatable {
  package let peak: Double
  package let schedule: Schedule
  package let warmupSteps: Int
  package let totalSteps: Int

  package init(peak: Double, schedule: Schedule, warmupSteps: Int = 0, totalSteps: Int) {
    self.peak = peak
    self.schedule = schedule
    self.warmupSteps = max(0, warmupSteps)
    self.totalSteps = max(0, totalSteps)
  }

  /// `warmup` < 1 is a share of the run (rounded up), from 1 on a number of steps.
  package init(peak: Double, schedule: Schedule, warmup: Double, totalSteps: Int) throws(Fault) {
    guard peak.isFinite, peak >= 0 else {
      throw Fault(.configuration, "learning_rate: found \(peak), expected a number >= 0")
    }
    guard warmup.isFinite, warmup >= 0, warmup < 1e15 else {
      throw Fault(
        .configuration,
        "warmup: found \(warmup), expected a share of the run < 1 or a count of steps")
    }
    let steps = (warmup < 1 ? warmup * Double(totalSteps) : warmup).rounded(.up)
    self.init(peak: peak, schedule: schedule, warmupSteps: Int(steps), totalSteps: totalSteps)
  }

  /// The factor on the peak before step `step` (0-based) is taken.
  package func factor(_ step: Int) -> Double {
    if schedule == .constant { return 1 }
    if step < warmupSteps { return Double(step) / Double(max(1, warmupSteps)) }
    let span = Double(max(1, totalSteps - warmupSteps))
    switch schedule {
    case .constant, .constantWithWarmup: return 1
    case .linear: return max(0, Double(totalSteps - step) / span)
    case .cosine:
      let progress = Double(step - warmupSteps) / span
      return max(0, 0.5 * (1 + cos(.pi * progress)))
    }
  }

  package func rate(_ step: Int) -> Double { peak * factor(step) }
}
