// SPDX-License-Identifier: Apache-2.0

extension Machine {
  /// Release of the operating system's kernel, e.g. "6.8.0-45-generic"; nil when hidden.
  package static var kernelRelease: String? { SystemFiles(root: "").text(releasePath) }

  /// How the clock of the first granted CPU is governed, e.g. "performance"; nil where the system
  /// does not say, as in most virtual machines.
  package var governor: String? {
    guard let cpu = granted.first else { return nil }
    return SystemFiles(root: "").text("/sys/devices/system/cpu/cpu\(cpu)/cpufreq/scaling_governor")
  }
}

private let releasePath = "/proc/sys/kernel/osrelease"
