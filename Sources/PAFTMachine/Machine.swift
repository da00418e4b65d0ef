// SPDX-License-Identifier: Apache-2.0

import CMachine
import PAFTBase

/// The computer as this process may use it.
package struct Machine: Sendable {
  package let topology: Topology
  /// CPUs this process may run on: its affinity mask, which a cpuset narrows too.
  package let granted: [Int]
  /// NUMA nodes this process may take memory from.
  package let grantedNodes: [Int]
  package let group: ControlGroup
  package let memory: Memory

  /// Bytes.
  package struct Memory: Sendable, Equatable {
    /// Installed; nil when the kernel does not say.
    package let total: Int?
    /// Free or quickly freed, when the machine was looked at.
    package let available: Int?
    /// What this process may have: the installed memory, or less by its control group.
    package let limit: Int?
  }

  /// Looks at the machine. With a `root`, at the `sys` and `proc` trees under it instead.
  /// - Throws: `Fault` when there is no CPU to be found.
  package static func detect(root: String = "") throws -> Machine {
    let files = SystemFiles(root: root)
    // The process's first thread, not the caller, which may be pinned already.
    let mask =
      files.field("Cpus_allowed_list", of: "/proc/self/status").flatMap { CPUList.parse($0) }
      ?? (root.isEmpty ? ownMask() : nil)
    let topology = try Topology.read(files, granted: mask ?? [])
    let online = topology.cpus.map(\.id)
    let granted = mask.map { $0.filter(Set(online).contains) } ?? online
    guard !granted.isEmpty else {
      throw Fault(
        .unexpected,
        "this process may run on CPUs \(CPUList.format(mask ?? [])), online are \(CPUList.format(online))",
        hint: "look at taskset and at the container's cpuset")
    }
    let nodes = files.field("Mems_allowed_list", of: "/proc/self/status")
      .flatMap { CPUList.parse($0) }
    let group = ControlGroup(files)
    let total = files.kilobytes("MemTotal", of: "/proc/meminfo")
    return Machine(
      topology: topology, granted: granted, grantedNodes: nodes ?? topology.nodes.map(\.id),
      group: group,
      memory: Memory(
        total: total, available: files.kilobytes("MemAvailable", of: "/proc/meminfo"),
        limit: [total, group.memory].compactMap { $0 }.min()))
  }

  private static func ownMask() -> [Int]? {
    var cpus = [Int32](repeating: 0, count: CPUList.bound)
    let found = paft_get_affinity(&cpus, Int32(cpus.count))
    return found > 0 ? cpus.prefix(Int(found)).map { Int($0) } : nil
  }

  /// One CPU of every physical core that is granted, neighbours in cache and node side by side.
  package var cores: [Topology.CPU] {
    let allowed = Set(granted)
    var seen: Set<Int> = []
    return topology.cpus.filter { allowed.contains($0.id) && seen.insert($0.core).inserted }
      .sorted {
        ($0.package, $0.node, $0.l3 ?? 0, $0.core) < ($1.package, $1.node, $1.l3 ?? 0, $1.core)
      }
  }

  /// Workers that can run at full speed at once: the cores, and the quota; at least 1. The quota is
  /// rounded down, unless a fifth of it or more would lie idle: one worker on 1.5 CPUs trains 813
  /// tokens/s, two, which are stopped a quarter of the time, 1049.
  package var workers: Int {
    guard let quota = group.cpus, let floor = Int(exactly: quota.rounded(.down)) else {
      return max(1, cores.count)
    }
    return max(1, min(cores.count, Double(floor) >= 0.8 * quota ? floor : floor + 1))
  }

  /// Refuses a plan that cannot fit, before anything is allocated.
  /// - Throws: `Fault(.memoryBudget)`.
  package func require(bytes: Int, for purpose: String) throws {
    guard let limit = memory.limit, bytes > limit else { return }
    let source = group.memory == limit ? "control group \(group.memoryFolder ?? "")" : "installed"
    throw Fault(
      .memoryBudget,
      "\(purpose) needs \(ByteCount(bytes)), this process has \(ByteCount(limit)) (\(source))",
      hint: "lower batch_size or max_length, take base_dtype: int8, or raise the limit")
  }

  /// Bytes this process holds in memory now; 0 when the kernel does not say.
  package static var resident: Int {
    SystemFiles(root: "").kilobytes("VmRSS", of: "/proc/self/status") ?? 0
  }

  /// Bytes this process held in memory at its peak.
  package static var peakResident: Int { paft_peak_resident() }

  /// Gives free memory of the heap back to the system, which otherwise stays with the thread that had
  /// it: between stages, whose plans know nothing of it.
  package static func trimHeap() { paft_trim_heap() }
}
