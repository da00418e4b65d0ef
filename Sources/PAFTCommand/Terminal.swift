// SPDX-License-Identifier: Apache-2.0

import PAFT

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Standard output carries results, standard error carries everything meant for people.
enum Terminal {
  static let errorIsTerminal = isatty(STDERR_FILENO) == 1

  static func error(_ text: String) { write(text, to: STDERR_FILENO) }
  static func output(_ text: String) { write(text, to: STDOUT_FILENO) }
  static func line(_ text: String) { output(text + "\n") }

  /// Columns of the terminal behind standard error.
  static var width: Int {
    var size = winsize()
    return ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 20
      ? Int(size.ws_col) : 100
  }

  /// Whole or, when nobody listens any more, not at all.
  private static func write(_ text: String, to descriptor: CInt) {
    var text = text
    text.withUTF8 { bytes in
      var done = 0
      while done < bytes.count {
        let count = Glibc.write(descriptor, bytes.baseAddress! + done, bytes.count - done)
        if count < 0 {
          if errno == EINTR { continue }
          return
        }
        done += count
      }
    }
  }
}
