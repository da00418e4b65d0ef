// SPDX-License-Identifier: Apache-2.0

/// What a run tells while it goes on. Steps of two branches arrive from two threads.
public enum RunEvent: Sendable {
  /// A stage begins: "loading the base", "training", "merging", "evaluating".
  case stage(String)
  /// Something a person may want to know, one line.
  case notice(String)
  case step(BranchProgress)
}

/// Where a branch stands after an optimizer step.
public struct BranchProgress: Sendable {
  /// "sft", "align", or a baseline's name.
  public let branch: String
  public let step: Int
  public let totalSteps: Int
  public let loss: Double
  public let learningRate: Double
  public let gradientNorm: Double
  /// Of this step.
  public let tokens: Int
  public let seconds: Double
  public let tokenAccuracy: Double
  /// Preference branches: share of pairs whose chosen answer has the larger reward.
  public let rewardAccuracy: Double?
  public let rewardMargin: Double?
  /// Of the delta, as last measured; nil without L1.
  public let sparsity: Double?
  /// Steps between two progress lines, as the recipe wishes.
  public let loggingSteps: Int
}

/// How a run is asked to end early: at the next step, after a checkpoint.
public enum RunStop: Sendable {
  case none
  /// Exit code 143.
  case terminate
  /// Exit code 130.
  case interrupt
}

/// Who listens to a run, and how it is stopped. Both closures are called from several threads.
public struct RunObserver: Sendable {
  public var onEvent: @Sendable (RunEvent) -> Void
  public var shouldStop: @Sendable () -> RunStop

  public init(
    onEvent: @escaping @Sendable (RunEvent) -> Void = { _ in },
    shouldStop: @escaping @Sendable () -> RunStop = { .none }
  ) {
    self.onEvent = onEvent
    self.shouldStop = shouldStop
  }
}
