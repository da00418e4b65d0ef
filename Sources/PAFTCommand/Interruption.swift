// SPDX-License-Identifier: Apache-2.0

import PAFT
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// SIGTERM and the first SIGINT ask the run to stop after a checkpoint; a second SIGINT leaves at
/// once, which loses nothing that was durable. A closed terminal or pipe does not end a training.
enum Interruption {
  private static let signal = Atomic<Int32>(0)

  static func install() {
    _ = signal.load(ordering: .relaxed)  // made before a handler may need it
    for number in [SIGTERM, SIGINT] {
      var action = sigaction()
      action.__sigaction_handler.sa_handler = { number in
        let earlier = Interruption.signal.exchange(number, ordering: .relaxed)
        if earlier == SIGINT && number == SIGINT { _exit(130) }
      }
      action.sa_flags = SA_RESTART
      sigaction(number, &action, nil)
    }
    Glibc.signal(SIGHUP, SIG_IGN)
    Glibc.signal(SIGPIPE, SIG_IGN)
  }

  /// A file beyond `ulimit -f` then fails like a full disk, with a message and an exit code.
  static func ignoreFileSizeSignal() { Glibc.signal(SIGXFSZ, SIG_IGN) }

  static var request: RunStop {
    switch signal.load(ordering: .relaxed) {
    case SIGTERM: .terminate
    case SIGINT: .interrupt
    default: .none
    }
  }
}
