// SPDX-License-Identifier: Apache-2.0

/// What the control groups of this process allow, the tightest limit on the way to the root.
/// libomp and the affinity mask know nothing of the quota, and a team that exceeds it is stopped in
/// mid-barrier many times a second, so workers must be counted by it.
package struct ControlGroup: Sendable, Equatable {
  /// CPUs' worth of time, e.g. 1.5; nil without a quota.
  package private(set) var cpus: Double?
  /// The folder whose quota is the tightest.
  package private(set) var cpusFolder: String?
  /// Bytes of memory; nil without a limit.
  package private(set) var memory: Int?
  package private(set) var memoryFolder: String?

  init(_ files: SystemFiles) {
    let mounts = Self.mounts(files)
    for line in (files.text("/proc/self/cgroup") ?? "").split(separator: "\n") {
      // "0::/path" (v2) or "4:cpu,cpuacct:/path" (v1)
      let fields = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard fields.count == 3 else { continue }
      let controllers = fields[1].split(separator: ",").map { String($0) }
      let path = String(fields[2])
      if controllers.isEmpty {
        guard let mount = mounts.first(where: { $0.isUnified }) else { continue }
        for folder in mount.folders(of: path) {
          limit(cpus: Self.unifiedQuota(files.text(folder + "/cpu.max")), by: folder)
          limit(memory: files.integer(folder + "/memory.max"), by: folder)
        }
      } else {
        for mount in mounts where !mount.isUnified {
          for folder in mount.folders(of: path) {
            if controllers.contains("cpu"), mount.controllers.contains("cpu") {
              let quota = files.integer(folder + "/cpu.cfs_quota_us")
              let period = files.integer(folder + "/cpu.cfs_period_us")
              limit(cpus: Self.quota(quota, period: period), by: folder)
            }
            if controllers.contains("memory"), mount.controllers.contains("memory") {
              limit(memory: files.integer(folder + "/memory.limit_in_bytes"), by: folder)
            }
          }
        }
      }
    }
  }

  private mutating func limit(cpus new: Double?, by folder: String) {
    guard let new, new < cpus ?? .infinity else { return }
    (cpus, cpusFolder) = (new, folder)
  }

  private mutating func limit(memory new: Int?, by folder: String) {
    // Version 1 says "no limit" with the largest page-aligned number.
    guard let new, new >= 0, new < 1 << 62, new < memory ?? .max else { return }
    (memory, memoryFolder) = (new, folder)
  }

  /// "150000 100000" or "max 100000".
  private static func unifiedQuota(_ text: String?) -> Double? {
    guard let fields = text?.split(separator: " "), fields.count == 2 else { return nil }
    return quota(Int(fields[0]), period: Int(fields[1]))
  }

  private static func quota(_ quota: Int?, period: Int?) -> Double? {
    guard let quota, let period, quota > 0, period > 0 else { return nil }
    return Double(quota) / Double(period)
  }
}

extension ControlGroup {
  private struct Mount {
    /// The group that is visible at `point`.
    let root: String
    let point: String
    let isUnified: Bool
    let controllers: [String]

    /// The folders of a group and its ancestors, as far up as this process can see.
    func folders(of path: String) -> [String] {
      var names = path.split(separator: "/")
      let hidden = root.split(separator: "/")
      // Without a cgroup namespace a container sees its own group at the mount point.
      names = names.starts(with: hidden) ? Array(names.dropFirst(hidden.count)) : []
      if names.contains("..") { names = [] }
      return (0...names.count).reversed().map { count in
        ([point == "/" ? "" : point] + names.prefix(count).map { String($0) }).joined(
          separator: "/")
      }
    }
  }

  private static func mounts(_ files: SystemFiles) -> [Mount] {
    // "36 32 0:31 /root /sys/fs/cgroup/cpu rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct"
    (files.text("/proc/self/mountinfo") ?? "").split(separator: "\n").compactMap { line in
      let fields = line.split(separator: " ")
      guard let dash = fields.firstIndex(of: "-"), dash >= 6, fields.count > dash + 3,
        fields[dash + 1] == "cgroup" || fields[dash + 1] == "cgroup2"
      else { return nil }
      return Mount(
        root: unescape(fields[3]), point: unescape(fields[4]),
        isUnified: fields[dash + 1] == "cgroup2",
        controllers: fields[dash + 3].split(separator: ",").map { String($0) })
    }
  }

  /// mountinfo writes white space and backslashes as "\040".
  private static func unescape(_ text: Substring) -> String {
    var bytes: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.first {
      let digits = rest.dropFirst().prefix(3)
      if byte == 92, digits.count == 3,
        let code = UInt8(String(decoding: digits, as: UTF8.self), radix: 8)
      {
        bytes.append(code)
        rest = rest.dropFirst(4)
      } else {
        bytes.append(byte)
        rest = rest.dropFirst()
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
