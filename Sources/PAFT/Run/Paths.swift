// SPDX-License-Identifier: Apache-2.0

import PAFTBase

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Paths as texts.
package enum Paths {
  package static func absolute(_ path: String, from folder: String) -> String {
    normalized(path.hasPrefix("/") ? path : folder + "/" + path)
  }

  /// The folder this process was started in.
  package static var current: String {
    guard let raw = getcwd(nil, 0) else { return "." }
    defer { free(raw) }
    return String(cString: raw)
  }

  /// `a/./b//c` → `a/b/c`. `..` stays: what it means depends on links.
  package static func normalized(_ path: String) -> String {
    let joined = path.split(separator: "/").filter { $0 != "." }.joined(separator: "/")
    return path.hasPrefix("/") ? "/" + joined : joined.isEmpty ? "." : joined
  }
}
