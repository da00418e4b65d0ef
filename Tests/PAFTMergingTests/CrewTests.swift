// SPDX-License-Identifier: Apache-2.0

import PAFTKernels
import PAFTMerging
import Synchronization
import Testing

@Suite struct CrewTests {
  /// Jobs of very different sizes, in which loops follow on loops and each needs the one before it whole.
  @Test(arguments: [1, 2, 7, 40])
  func everyJobAndEveryPartIsDoneOnce(jobs: Int) {
    for parallel in [serially, threaded] {
      let done = Mutex([[Int]](repeating: [], count: jobs))
      let wrong = Atomic(0)
      Crew.run(jobs, Lanes(parallel)) { job, lanes in
        let parts = job == 0 ? 5000 : job * 3
        let counts = Mutex([Int](repeating: 0, count: parts))
        for round in 0..<3 {
          lanes.forEach(parts) { part in
            counts.withLock { counts in
              if counts[part] != round { wrong.add(1, ordering: .relaxed) }
              counts[part] += 1
            }
          }
          if counts.withLock({ $0.contains { $0 != round + 1 } }) {
            wrong.add(1, ordering: .relaxed)
          }
        }
        done.withLock { $0[job].append(counts.withLock { $0.reduce(0, +) }) }
      }
      #expect(wrong.load(ordering: .relaxed) == 0)
      #expect(done.withLock { $0 } == (0..<jobs).map { [($0 == 0 ? 5000 : $0 * 3) * 3] })
    }
  }

  /// A worker that has no job left does a part of another's, for which its owner waits.
  @Test func whoIsFreeHelps() {
    let team: Parallel = { _, body in
      withoutActuallyEscaping(body) { body in
        nonisolated(unsafe) let body = body
        let others = (1..<3).map { n in onThread { body(n) } }
        body(0)
        for end in others { end() }
      }
    }
    let arrived = Atomic(0)
    let parts = 3
    Crew.run(1, Lanes(team)) { _, lanes in
      // Nobody leaves before three are inside at once: alone, this would never end.
      lanes.forEach(parts) { _ in
        arrived.add(1, ordering: .sequentiallyConsistent)
        while arrived.load(ordering: .sequentiallyConsistent) < parts {}
      }
    }
    #expect(arrived.load(ordering: .relaxed) == parts)
  }
}
