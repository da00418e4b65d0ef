// SPDX-License-Identifier: Apache-2.0

import PAFTFormats
import PAFTMachine

/// What somebody must know to make sense of the numbers, or to measure them again.
package struct BenchSystem: Sendable {
  let model: String
  let isa: String
  let cores: Int
  let caches: Topology.Caches
  let quota: Double?
  let hugePages: String?
  let governor: String?
  let kernel: String?
  let commit: String

  init(_ machine: Machine, _ isa: String) {
    model = machine.topology.model
    self.isa = isa
    cores = machine.workers
    caches = machine.topology.caches
    quota = machine.group.cpus
    hugePages = machine.topology.hugePages.transparent
    governor = machine.governor
    kernel = Machine.kernelRelease
    commit = SourceCommit.current ?? "unknown"
  }

  var json: JSON {
    [
      "cpu": .string(model), "isa": .string(isa), "cores": JSON(cores),
      "l1_bytes": JSON(optional: caches.l1), "l2_bytes": JSON(optional: caches.l2),
      "l3_bytes": JSON(optional: caches.l3), "quota_cpus": JSON(optional: quota),
      "huge_pages": JSON(optional: hugePages), "governor": JSON(optional: governor),
      "kernel": JSON(optional: kernel),
    ]
  }

  /// One line for people.
  package var text: String {
    var parts = [model.isEmpty ? "unnamed processor" : model, isa, "\(cores) cores"]
    for (name, size) in [("L1", caches.l1), ("L2", caches.l2), ("L3", caches.l3)] {
      if let size { parts.append("\(name) \(ByteCount(size))") }
    }
    if let quota { parts.append("quota \(Numbers.short(quota)) CPUs") }
    parts.append("huge pages \(hugePages ?? "absent")")
    parts.append("governor \(governor ?? "unknown")")
    if let kernel { parts.append("Linux \(kernel)") }
    parts.append("commit \(commit)")
    return parts.joined(separator: ", ")
  }
}
