// SPDX-License-Identifier: Apache-2.0

import Glibc

/// The calling thread, as a number that is unique while the thread lives.
enum ThreadID {
  static var current: UInt { UInt(pthread_self()) }
}

enum Thread {
  static func yield() { sched_yield() }
}
