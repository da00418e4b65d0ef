// SPDX-License-Identifier: Apache-2.0

/// One instruction with its right completion, in the prompt/completion form of training data.
package struct InstructionRow: Sendable, Equatable {
  package let prompt: String
  package let completion: String
  /// The group of questions it belongs to, for a table of results.
  package let task: String

  package init(prompt: String, completion: String, task: String) {
    self.prompt = prompt
    self.completion = completion
    self.task = task
  }

  /// One line of JSON, without the line feed.
  package var jsonLine: String {
    JSONLine.object([("prompt", prompt), ("completion", completion), ("task", task)])
  }
}

/// One prompt with a better and a worse completion.
package struct PreferenceRow: Sendable, Equatable {
  package let prompt: String
  package let chosen: String
  package let rejected: String

  package init(prompt: String, chosen: String, rejected: String) {
    self.prompt = prompt
    self.chosen = chosen
    self.rejected = rejected
  }

  /// One line of JSON, without the line feed.
  package var jsonLine: String {
    JSONLine.object([("prompt", prompt), ("chosen", chosen), ("rejected", rejected)])
  }
}
