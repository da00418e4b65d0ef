// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Random moments in the life of a process, to kill it at. A process may live shorter than the one that was
/// timed, if the machine was busy then: those that come through draw the end of life nearer.
struct KillingTime {
  private static let shortest = 1000
  private var microseconds: Int

  init(within life: Duration) {
    microseconds = max(2 * Self.shortest, Int(life / .microseconds(1)))
  }

  func wait() { usleep(UInt32(Int.random(in: Self.shortest...microseconds))) }

  /// A whole life was over before its moment came.
  mutating func missed() { microseconds = max(2 * Self.shortest, microseconds * 3 / 4) }
}
