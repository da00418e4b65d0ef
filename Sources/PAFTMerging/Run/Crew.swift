// SPDX-License-Identifier: Apache-2.0

/// Workers with a list of jobs. Each takes the next one until there is none, and then helps those who are
/// still at theirs: what these share out (`share`) is done by all who have nothing else to do. So nobody
/// waits between the passes of a job, and nobody goes before all are done.
package final class Crew: @unchecked Sendable {
  // Sendable: everything that changes is read and written under the monitor.
  private let monitor = Monitor()
  private let jobs: Int
  private var taken = 0
  /// Jobs under way.
  private var busy = 0
  /// What their owners share out at the moment.
  private var loops: [Loop] = []

  private final class Loop {
    let count: Int
    let body: (Int) -> Void
    var taken = 0
    /// Who is inside of it.
    var workers = 0

    init(_ count: Int, _ body: @escaping (Int) -> Void) {
      self.count = count
      self.body = body
    }
  }

  /// More calls of `work` than there are workers: those that come late find nothing to do.
  private static let calls = 1024

  private init(_ jobs: Int) { self.jobs = jobs }

  /// Runs `job(0) … job(count - 1)` on the workers of `lanes`, begun in this order; what a job does with
  /// the lanes it is given is done by all who are free.
  package static func run(_ count: Int, _ lanes: Lanes, _ job: (Int, Lanes) -> Void) {
    let crew = Crew(count)
    let shared = lanes.sharing { crew.share($0, $1) }
    lanes.forEach(calls) { _ in crew.work { job($0, shared) } }
  }

  /// One worker's part, until all jobs are done.
  private func work(_ job: (Int) -> Void) {
    monitor.lock()
    while true {
      if taken < jobs {
        let number = taken
        taken += 1
        busy += 1
        monitor.unlock()
        job(number)
        monitor.lock()
        busy -= 1
        if busy == 0 { monitor.broadcast() }
      } else if let loop = loops.last(where: { $0.taken < $0.count }) {
        enter(loop)
        if loop.workers == 0 { monitor.broadcast() }
      } else if busy > 0 {
        monitor.wait()
      } else {
        break
      }
    }
    monitor.unlock()
  }

  /// `body(0) … body(count - 1)`, of which others may take some, and their end.
  private func share(_ count: Int, _ body: (Int) -> Void) {
    withoutActuallyEscaping(body) { body in
      let loop = Loop(count, body)
      monitor.lock()
      loops.append(loop)
      if taken == jobs { monitor.broadcast() }
      enter(loop)
      while loop.workers > 0 { monitor.wait() }
      loops.removeAll { $0 === loop }
      monitor.unlock()
    }
  }

  /// Takes what is left of a loop; the monitor is held before and after.
  private func enter(_ loop: Loop) {
    loop.workers += 1
    while loop.taken < loop.count {
      let number = loop.taken
      loop.taken += 1
      monitor.unlock()
      loop.body(number)
      monitor.lock()
    }
    loop.workers -= 1
  }
}
