// SPDX-License-Identifier: Apache-2.0

package import PAFTBase

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// A lock file held while the object lives. The kernel drops the lock with the process, so a power
/// cut or a kill leaves no stale lock; the file itself may stay.
package final class FileLock: Sendable {
  private let descriptor: CInt

  /// Throws 75 when another process, or another object in this one, holds it.
  package init(_ path: String) throws(Fault) {
    try checkedPath(path, .create)
    descriptor = CInt(retrying { Int(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o666)) })
    guard descriptor >= 0 else { throw .system(.create, path) }
    guard retrying({ Int(flock(descriptor, LOCK_EX | LOCK_NB)) }) == 0 else {
      let code = errno
      let holder = (try? FileSystem.text(path, limit: 64)) ?? ""
      close(descriptor)
      guard code == EWOULDBLOCK else { throw .system(.create, path, code: code) }
      throw Fault(
        .locked,
        "\(quoted(path)) is locked by another run (\(holder.isEmpty ? "pid unknown" : holder))",
        hint: "wait for it to end, or use another folder")
    }
    ftruncate(descriptor, 0)
    let text = Array("pid \(getpid())".utf8)
    _ = text.withUnsafeBytes { pwrite(descriptor, $0.baseAddress!, $0.count, 0) }
  }

  deinit { close(descriptor) }
}
