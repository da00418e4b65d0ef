// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import PAFT

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// How an error leaves: one line, perhaps a hint, an exit code.
enum Failure {
  static func exit(_ error: any Error) -> Never {
    if let error = error as? PAFTError {
      report(error)
      Glibc.exit(error.exitCode)
    }
    let code = Paft.exitCode(for: error)
    // Asked for help or the version, or ended on purpose: the parser knows what to print.
    guard code == .validationFailure || code.rawValue == EX_USAGE else {
      Paft.exit(withError: error)
    }
    let message = Paft.message(for: error).split(separator: "\n").joined(separator: " ")
    Terminal.error("paft: error: \(message)\n")
    Terminal.error("hint: paft \(verb)--help\n")
    Glibc.exit(EX_USAGE)
  }

  static func report(_ error: PAFTError) {
    Terminal.error("paft: error: \(error.message)\n")
    if let hint = error.hint { Terminal.error("hint: \(hint)\n") }
  }

  /// The verb that was called, for the hint.
  private static var verb: String {
    guard let first = CommandLine.arguments.dropFirst().first,
      Paft.verbs.contains(first)
    else { return "" }
    return first + " "
  }
}

extension Paft {
  static var verbs: [String] {
    var names: [String] = []
    for command in configuration.subcommands {
      if let name = command.configuration.commandName { names.append(name) }
    }
    return names
  }
}
