// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTTraining
import Synchronization

/// Why training should stop: somebody asked, or the other branch failed.
final class RunStopper: Sendable {
  private let failed = Atomic<Bool>(false)
  private let asked: @Sendable () -> RunStop

  init(_ observer: RunObserver) { asked = observer.shouldStop }

  /// A branch failed; the other one goes no further than its next checkpoint.
  func fail() { failed.store(true, ordering: .relaxed) }

  func request() -> StopRequest {
    switch asked() {
    case .terminate: .terminate
    case .interrupt: .interrupt
    case .none: failed.load(ordering: .relaxed) ? .terminate : .none
    }
  }

  /// Between two stages of a run.
  func check(before stage: String) throws {
    switch asked() {
    case .none: return
    case .terminate: throw Self.stopped(.terminated, stage)
    case .interrupt: throw Self.stopped(.interrupted, stage)
    }
  }

  private static func stopped(_ code: ExitCode, _ stage: String) -> Fault {
    Fault(
      code, "stopped before \(stage), what was done is kept",
      hint: "run the same command with --resume to go on")
  }
}
