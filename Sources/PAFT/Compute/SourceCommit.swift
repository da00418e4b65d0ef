// SPDX-License-Identifier: Apache-2.0

import PAFTFormats

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// The commit of the checkout this program was built in, for measurements; nil where the program
/// stands elsewhere.
enum SourceCommit {
  static var current: String? {
    var buffer = [CChar](repeating: 0, count: 4096)
    let count = readlink("/proc/self/exe", &buffer, buffer.count - 1)
    guard count > 0 else { return nil }
    var folder = String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    while folder != "/" && folder != "." {
      folder = FileSystem.parent(of: folder)
      if FileSystem.isFolder(folder + "/.git") { return commit(folder + "/.git") }
      // A further working tree of a checkout: the file names its part of the checkout's folder.
      if let link = line(folder + "/.git"), link.hasPrefix("gitdir: ") {
        return commit(String(link.dropFirst(8)))
      }
    }
    return nil
  }

  /// HEAD names a commit, or a branch that has a file or a packed line of its own.
  private static func commit(_ git: String) -> String? {
    guard let head = line(git + "/HEAD") else { return nil }
    guard head.hasPrefix("ref: ") else { return String(head.prefix(12)) }
    let name = String(head.dropFirst(5))
    if let direct = line(git + "/" + name) { return String(direct.prefix(12)) }
    if let shared = line(git + "/commondir") { return commit(name, git + "/" + shared) }
    return commit(name, git)
  }

  private static func commit(_ name: String, _ git: String) -> String? {
    if let direct = line(git + "/" + name) { return String(direct.prefix(12)) }
    let packed = (try? FileSystem.text(git + "/packed-refs", limit: 16 << 20)) ?? ""
    let entry = packed.split(separator: "\n").first { $0.hasSuffix(" " + name) }
    return entry.map { String($0.prefix(12)) }
  }

  private static func line(_ path: String) -> String? {
    guard let text = try? FileSystem.text(path, limit: 4096) else { return nil }
    return text.split(separator: "\n").first.map(String.init)
  }
}
