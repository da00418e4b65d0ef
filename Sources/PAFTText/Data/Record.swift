// SPDX-License-Identifier: Apache-2.0

/// What one row of a data set asks to be learnt.
package enum Record: Sendable, Equatable {
  /// Every token is trained.
  case text(String)
  /// The completion is trained, given the prompt.
  case completion(prompt: String, completion: String)
  case preference(prompt: String, chosen: String, rejected: String)
  /// Token by token: `labels[t]` is `ids[t]` where trained and -100 elsewhere; equally long.
  case tokens(ids: [Int32], labels: [Int32])
  case preferenceTokens(prompt: [Int32], chosen: [Int32], rejected: [Int32])

  /// The mark of a position that is not trained, as in Hugging Face's data sets.
  package static let ignored: Int32 = -100

  package var isPreference: Bool {
    switch self {
    case .preference, .preferenceTokens: true
    case .text, .completion, .tokens: false
    }
  }

  /// The kind in words, for messages.
  package var kind: String {
    switch self {
    case .text: "text"
    case .completion: "prompt and completion"
    case .preference: "preference pair"
    case .tokens: "token ids"
    case .preferenceTokens: "preference pair of token ids"
    }
  }
}

/// A record and where it came from.
package struct Row: Sendable {
  package let record: Record
  /// Line of the file, or number of the row in an array; both count from 1.
  package let number: Int

  package init(_ record: Record, number: Int) {
    self.record = record
    self.number = number
  }
}
