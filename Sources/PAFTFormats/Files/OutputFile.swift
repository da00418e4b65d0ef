// SPDX-License-Identifier: Apache-2.0

package import PAFTBase

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// One file open for writing; closed when the last reference goes. Short writes and interrupted
/// calls are finished here. Writes at given offsets may come from several threads.
package final class OutputFile: Sendable {
  package let path: String
  private let descriptor: CInt

  /// A new empty file; one that exists is emptied.
  package init(creating path: String) throws(Fault) {
    try checkedPath(path, .create)
    self.path = path
    descriptor = CInt(retrying { Int(open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)) })
    guard descriptor >= 0 else { throw .system(.create, path) }
  }

  /// A file that grows at its end, for logs; made if absent.
  package init(appendingTo path: String) throws(Fault) {
    try checkedPath(path, .create)
    self.path = path
    descriptor = CInt(
      retrying { Int(open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o666)) })
    guard descriptor >= 0 else { throw .system(.create, path) }
  }

  deinit { close(descriptor) }

  /// Reserves the room now, so that a full disk is seen before anything is written.
  package func reserve(_ bytes: Int) throws(Fault) {
    guard bytes > 0 else { return }
    var code: CInt
    repeat { code = posix_fallocate(descriptor, 0, off_t(bytes)) } while code == EINTR
    // File systems without the call (and pipes) say so; the writes will then find out.
    guard code == 0 || code == EOPNOTSUPP || code == EINVAL || code == ESPIPE else {
      throw .system(.write, path, code: code)
    }
  }

  package func write(_ bytes: UnsafeRawBufferPointer) throws(Fault) {
    var done = 0
    while done < bytes.count {
      let put = retrying { systemWrite(descriptor, bytes.baseAddress! + done, bytes.count - done) }
      guard put >= 0 else { throw .system(.write, path) }
      done += put
    }
  }

  package func write(_ text: String) throws(Fault) {
    try text.withRawBytes { (buffer) throws(Fault) in try write(buffer) }
  }

  package func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(Fault) {
    var done = 0
    while done < bytes.count {
      let put = retrying {
        pwrite(descriptor, bytes.baseAddress! + done, bytes.count - done, off_t(offset + done))
      }
      guard put >= 0 else { throw .system(.write, path) }
      done += put
    }
  }

  /// Returns when the bytes are on the medium. After a failure the file must be thrown away: a
  /// second attempt may succeed without the data.
  package func synchronize() throws(Fault) {
    guard retrying({ Int(fsync(descriptor)) }) == 0 else { throw .system(.write, path) }
  }
}

private let systemWrite = write
