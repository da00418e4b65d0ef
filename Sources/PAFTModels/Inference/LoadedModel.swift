// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTMachine
import PAFTOps

/// A model ready to score and generate: a folder, with or without an adapter beside it.
package final class LoadedModel {
  package let base: BaseModel
  package let weights: Weights
  private let adapter: AdapterStore?

  package var configuration: ModelConfiguration { base.configuration }

  package convenience init(folder: String, adapter: String? = nil, on executor: Executor) throws {
    let base = try BaseModel(ModelFolder(folder), backward: false, on: executor)
    try self.init(base, adapter: adapter, on: executor)
  }

  package init(_ base: BaseModel, adapter path: String? = nil, on executor: Executor) throws {
    self.base = base
    guard let path else {
      adapter = nil
      weights = base.weights
      return
    }
    let folder = try AdapterFolder(path, base.configuration)
    let store = try AdapterStore(folder.configuration, base.configuration, on: executor)
    try folder.load(into: store, on: executor)
    adapter = store
    weights = store.applied(to: base.weights)
  }

  /// A decoder that takes sequences of up to `maxTokens` (default: the model's own limit).
  package func decoder(maxTokens: Int? = nil, on executor: Executor) throws -> Decoder {
    try Decoder(
      configuration, maxTokens: maxTokens ?? configuration.maxPositions, on: executor)
  }
}
