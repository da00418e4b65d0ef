// SPDX-License-Identifier: Apache-2.0

import PAFTMachine

/// How much of an operand a product works on at a time, from the caches of the machine. Only rows of C
/// are cut by it: the slices of k, which decide the order of sums, are the same on every machine, so
/// a recipe's bits do not depend on its caches.
package struct Blocking: Sendable, Equatable {
  /// Rows of A that pass by a panel of B: at 8 KiB for each (a whole slice of k in BF16), half as
  /// much again as the second-level cache, where the panel's slice takes half.
  package let rows: Int

  /// As many bytes of shorter rows: B is read once for each block of them.
  package func rows(of bytes: Int) -> Int { max(rows, min(768, rows * (8 << 10) / bytes)) }

  /// Bytes of a transposed A that are packed at a time: half of a core's share of the last level.
  package let transposedBytes: Int

  /// - Parameters:
  ///   - l2, l3: bytes; nil where the system does not say.
  ///   - sharing: cores of one last-level cache.
  package init(l2: Int?, l3: Int?, sharing: Int) {
    let lines = (l2 ?? 1 << 20) * 3 / 2 / (8 << 10)
    // Whole tiles of six rows and of sixteen.
    rows = min(768, max(48, lines / 48 * 48))
    transposedBytes = min(32 << 20, max(1 << 20, (l3 ?? 32 << 20) / 2 / max(1, sharing)))
  }

  /// Of this machine: Zen 4 with 1 MiB and, for two cores, 32 MiB has 192 rows and 8 MiB.
  package static let here: Blocking = {
    guard let topology = (try? Machine.detect())?.topology else {
      return Blocking(l2: nil, l3: nil, sharing: 2)
    }
    let first = topology.cpus.first?.l3
    let cores = first == nil ? 0 : Set(topology.cpus.filter { $0.l3 == first }.map(\.core)).count
    return Blocking(
      l2: topology.caches.l2, l3: cores > 0 ? topology.caches.l3 : nil, sharing: max(2, cores))
  }()
}
