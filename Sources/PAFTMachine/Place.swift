// SPDX-License-Identifier: Apache-2.0

import PAFTBase

/// CPUs set aside for one team: worker i runs on `cpus[i]`, nowhere else.
package struct Place: Sendable, Equatable {
  /// One CPU number per worker. A number appears twice only where workers outnumber the CPUs.
  package let cpus: [Int]
  /// The NUMA node all of them belong to; nil when they span nodes.
  package let node: Int?
  /// Other places run on the same CPUs, so waiting workers should not spin.
  package let isShared: Bool

  package var count: Int { cpus.count }

  package init(cpus: [Int], node: Int?, isShared: Bool = false) {
    precondition(!cpus.isEmpty, "a place needs a CPU")
    self.cpus = cpus
    self.node = node
    self.isShared = isShared || Set(cpus).count < cpus.count
  }
}

extension Place {
  /// Runs `body` on a fresh root thread pinned to this place, with its own team, and blocks until
  /// it is done. Rethrows what `body` throws; throws a `Fault` when the team cannot be made.
  package func run<T: Sendable>(
    named name: String, _ body: @escaping @Sendable (Team) throws -> T
  ) throws -> T {
    try start(named: name, body).wait()
  }

  /// The asynchronous form: returns at once, `wait()` gives what `body` gave.
  package func start<T: Sendable>(
    named name: String, _ body: @escaping @Sendable (Team) throws -> T
  ) -> Running<T> {
    Running(named: name) {
      let team = try Team(on: self, named: name, pinned: Knobs.pin)
      defer { team.close() }
      return try body(team)
    }
  }
}
