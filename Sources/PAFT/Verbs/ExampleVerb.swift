// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTExample
import PAFTFormats

/// `paft example`: writes the built-in data set and a recipe for it.
package struct ExampleVerb: Sendable {
  package var output: String
  package var seed = 42
  package var documents = 4000
  package var instructions = 4000
  package var preferences = 1500
  /// Held-out rows of each kind.
  package var heldOut = 300

  package init(output: String) { self.output = output }

  /// Writes everything or nothing; gives the names of the files.
  package func run() throws(PAFTError) -> [String] {
    try PAFTError.wrapping {
      for (name, value) in [
        ("documents", documents), ("instructions", instructions), ("preferences", preferences),
        ("held-out", heldOut),
      ] where value < 1 || value > 10_000_000 {
        throw Fault(.usage, "--\(name) \(value): expected 1 to 10000000")
      }
      guard let seed = UInt64(exactly: seed) else {
        throw Fault(.usage, "--seed \(seed): expected a number >= 0")
      }
      let folder = try OutputFolder(output)
      let corpus = ExampleWorld.corpus(seed: seed, documents: documents)
      let files: [(String, [String])] = [
        ("corpus.jsonl", corpus.map { JSONLine.object([("text", $0)]) }),
        (
          "sft.jsonl",
          ExampleWorld.instructions(seed: seed, count: instructions, heldOut: false)
            .map(\.jsonLine)
        ),
        (
          "sft-eval.jsonl",
          ExampleWorld.instructions(seed: seed, count: heldOut, heldOut: true).map(\.jsonLine)
        ),
        (
          "prefs.jsonl",
          ExampleWorld.preferences(seed: seed, count: preferences, heldOut: false).map(\.jsonLine)
        ),
        (
          "prefs-eval.jsonl",
          ExampleWorld.preferences(seed: seed, count: heldOut, heldOut: true).map(\.jsonLine)
        ),
      ]
      for (name, lines) in files {
        try folder.write(name, lines.joined(separator: "\n") + "\n")
      }
      try folder.write("recipe.yaml", Self.recipe)
      try folder.commit()
      return files.map(\.0) + ["recipe.yaml"]
    }
  }

  /// Beside the data. The settings were chosen on data of another seed than the default's.
  static let recipe = """
    # A run on the built-in example: a small base, two branches, one merge.
    # The base is the one in the sources (tools/example/base), or made anew from the corpus:
    #   paft pretrain --data corpus.jsonl --output base
    model: base
    output: run
    seed: 42
    dtype: f32
    adapter: {type: full}
    sft:
      data: sft.jsonl
      eval_data: sft-eval.jsonl
      epochs: 4
      learning_rate: 1.0e-3
      batch_size: 16
      max_length: 256
      l1: {target_sparsity: 0.9}
    align:
      data: prefs.jsonl
      eval_data: prefs-eval.jsonl
      loss: dpo
      beta: 0.3
      epochs: 1
      learning_rate: 1.0e-4
      batch_size: 16
      max_length: 256
    merge: {method: ties, density: {sft: 1.0, align: 0.2}, weights: {sft: 1.5, align: 1.0}}
    baselines: [sequential, dense]
    eval: {grader: example, max_new_tokens: 32}

    """
}
