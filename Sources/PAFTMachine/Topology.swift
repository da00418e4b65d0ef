// SPDX-License-Identifier: Apache-2.0

/// How the machine is built, whatever part of it this process may use.
package struct Topology: Sendable, Equatable {
  /// "AMD EPYC 9654 96-Core Processor", or "" when the kernel does not say.
  package let model: String
  /// Online CPUs, ascending by `id`.
  package let cpus: [CPU]
  /// CPUs that are present and switched off.
  package let offline: [Int]
  /// NUMA nodes, ascending by `id`; at least one.
  package let nodes: [Node]
  package let caches: Caches
  package let hugePages: HugePages

  /// One hardware thread.
  package struct CPU: Sendable, Equatable {
    package let id: Int
    /// The physical core, named by the lowest of its hardware threads.
    package let core: Int
    /// The socket.
    package let package: Int
    /// The NUMA node.
    package let node: Int
    /// The group that shares an L3 cache (a CCX), named by its lowest CPU; nil without L3.
    package let l3: Int?
  }

  package struct Node: Sendable, Equatable {
    package let id: Int
    /// Online CPUs; empty for a node of memory only.
    package let cpus: [Int]
    /// Bytes; 0 for a node without memory, nil when the kernel does not say.
    package let memory: Int?
    /// Relative access cost to each node in the order of `Topology.nodes`; 10 is local.
    package let distances: [Int]
  }

  /// Bytes of the data caches of the first CPU; nil when unknown.
  package struct Caches: Sendable, Equatable {
    package let l1: Int?
    package let l2: Int?
    package let l3: Int?
  }

  package struct HugePages: Sendable, Equatable {
    /// Transparent huge pages: "always", "madvise", "never", or nil without support.
    package let transparent: String?
    /// When the kernel makes them by moving memory: "always", "defer", "madvise", "never", …
    package let defrag: String?
    /// Pages set aside for hugetlbfs, by size, where the kernel has such a pool. paft takes none.
    package let pools: [Pool]

    package struct Pool: Sendable, Equatable {
      /// Bytes of a page.
      package let size: Int
      package let count: Int
      package let free: Int?

      package init(size: Int, count: Int, free: Int?) {
        self.size = size
        self.count = count
        self.free = free
      }
    }
  }

  package var packages: [Int] { Set(cpus.map(\.package)).sorted() }
  package var coreCount: Int { Set(cpus.map(\.core)).count }
}
