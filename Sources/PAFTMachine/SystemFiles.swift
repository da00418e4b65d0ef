// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Small text files of sysfs, procfs and cgroups under a root, so that tests can bring their own.
/// What is absent, unreadable or malformed is nil: containers hide parts of these trees at will.
struct SystemFiles: Sendable {
  /// "" for the running system.
  let root: String

  /// The file's text without surrounding white space.
  func text(_ path: String) -> String? {
    let descriptor = open(root + path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    let chunk = UnsafeMutableRawBufferPointer.allocate(byteCount: 16 << 10, alignment: 16)
    defer { chunk.deallocate() }
    while bytes.count < sizeLimit {
      let got = read(descriptor, chunk.baseAddress!, chunk.count)
      if got < 0 && errno == EINTR { continue }
      guard got >= 0 else { return nil }
      if got == 0 { break }
      bytes.append(contentsOf: chunk[..<got])
    }
    return String(decoding: bytes, as: UTF8.self).trimmed
  }

  func integer(_ path: String) -> Int? { text(path).flatMap { Int($0) } }

  func cpuList(_ path: String) -> [Int]? { text(path).flatMap { CPUList.parse($0) } }

  /// The value of `key` in lines of "key: value".
  func field(_ key: String, of path: String) -> String? {
    text(path)?.split(separator: "\n").lazy
      .compactMap { line -> String? in
        let parts = line.split(separator: ":", maxSplits: 1)
        guard parts.count == 2, String(parts[0]).trimmed == key else { return nil }
        return String(parts[1]).trimmed
      }.first
  }

  /// Bytes of a line like "MemTotal:  24576 kB"; nil when absent or beyond Int.
  func kilobytes(_ key: String, of path: String) -> Int? {
    guard let value = field(key, of: path), let number = value.split(separator: " ").first,
      let count = Int(number)
    else { return nil }
    let (bytes, overflow) = count.multipliedReportingOverflow(by: 1024)
    return overflow ? nil : bytes
  }

  /// Bytes of a cache size like "32768K" or "1M".
  func cacheSize(_ path: String) -> Int? {
    guard let text = text(path) else { return nil }
    let shift = ["K": 10, "M": 20, "G": 30][text.suffix(1)]
    guard let count = Int(shift == nil ? text : String(text.dropLast())), count >= 0,
      count < 1 << 30
    else { return nil }
    return count << (shift ?? 0)
  }
}

/// More than any of these files holds, /proc/cpuinfo of a thousand CPUs included.
private let sizeLimit = 4 << 20

extension String {
  var trimmed: String {
    let bytes = utf8
    guard let first = bytes.firstIndex(where: { $0 > 32 }),
      let last = bytes.lastIndex(where: { $0 > 32 })
    else { return "" }
    return String(self[first...last])
  }
}
