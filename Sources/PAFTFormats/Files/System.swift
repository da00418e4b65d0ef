// SPDX-License-Identifier: Apache-2.0

// The one door to the operating system's file calls: every call of this room that sets errno is
// made here or in the files beside it, and every failure leaves as a Fault naming the path.

internal import PAFTBase

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// What was being done when a call failed; it decides the words and the exit code.
enum FileAction {
  case read, create, write

  var verb: String {
    switch self {
    case .read: "cannot read"
    case .create: "cannot create"
    case .write: "cannot write"
    }
  }

  /// 66 for inputs that are absent or closed to us, 73 for outputs that cannot be made, 74 for a
  /// disk that fails or is full.
  func exitCode(_ code: CInt) -> ExitCode {
    switch (self, code) {
    case (.read, ENOENT), (.read, ENOTDIR), (.read, ELOOP), (.read, EACCES), (.read, EPERM),
      (.read, ENAMETOOLONG):
      .missingInput
    case (.create, ENOSPC), (.create, EDQUOT), (.create, EIO): .inputOutput
    case (.create, _), (.write, EACCES), (.write, EROFS): .cannotCreate
    default: .inputOutput
    }
  }
}

extension Fault {
  /// The current errno, told as a failure to do `action` to `path`.
  static func system(_ action: FileAction, _ path: String, code: CInt = errno) -> Fault {
    Fault(
      action.exitCode(code),
      "\(action.verb) \(quoted(path)): \(String(cString: strerror(code)))")
  }
}

/// Repeats a call that a signal interrupted.
@inline(__always)
func retrying(_ call: () -> Int) -> Int {
  while true {
    let result = call()
    if result != -1 || errno != EINTR { return result }
  }
}

/// A path as the system takes it; one with a NUL inside would silently be cut there.
func checkedPath(_ path: String, _ action: FileAction) throws(Fault) {
  guard !path.isEmpty, !path.utf8.contains(0) else {
    throw Fault(
      action == .read ? .missingInput : .cannotCreate,
      "\(action.verb) \(quoted(path)): not a usable path")
  }
}

/// Text from a file or a person as it may stand in a message: control characters escaped, cut at
/// `limit` characters, so that a hostile name can neither move the cursor nor fill the screen.
package func quoted(_ text: String, limit: Int = 160) -> String {
  var out = "'"
  var count = 0
  for scalar in text.unicodeScalars {
    if count == limit {
      out += "…"
      break
    }
    count += 1
    let value = scalar.value
    if value < 0x20 || (0x7F..<0xA0).contains(value) || (0x202A...0x202E).contains(value) {
      out += "\\u{" + String(value, radix: 16) + "}"
    } else {
      out.unicodeScalars.append(scalar)
    }
  }
  return out + "'"
}

// Names that `FileSystem` uses for its own functions, spelt so that both C libraries serve.
let systemRead = read
let systemRename = rename
