// SPDX-License-Identifier: Apache-2.0

import PAFTBase
import PAFTFormats
import PAFTMerging
import Testing

private func parse(_ text: String) throws -> MergeConfiguration {
  try MergeConfiguration.parse(text, source: "m.yml")
}

private func refused(_ text: String) throws -> any Diagnosable {
  do {
    _ = try parse(text)
  } catch let error as any Diagnosable { return error }
  throw Fault(.unexpected, "was accepted")
}

private let layer = "model.layers.0.mlp.up_proj.weight"

@Suite struct ParserTests {
  @Test func theTwoBranchExampleLoads() throws {
    let merge = try parse(
      """
      merge_method: ties
      base_model: ./base
      models:
        - model: ./base+./sft_sparse_lora
          parameters: {weight: 0.5, density: 0.3}
        - model: ./base+./dpo_lora
          parameters: {weight: 0.5, density: [0.9, 0.6, 0.3]}   # gradient over depth
      parameters: {normalize: true, int8_mask: true, lambda: 1.0}
      dtype: float32
      out_dtype: bfloat16
      tokenizer: {source: base}
      """)
    #expect(merge.method.name == "ties" && merge.outputType == .bf16)
    let operands = merge.operands(of: merge.slices[0])
    #expect(operands.map(\.reference.adapter) == ["./sft_sparse_lora", "./dpo_lora"])
    #expect(operands.allSatisfy { $0.reference.model == "./base" })
    let values = try [0.0, 0.25, 0.5, 1].map {
      try merge.values(slice: 0, source: operands[1], tensor: layer, t: $0)["density"]
    }
    #expect(zip(values, [0.9, 0.75, 0.6, 0.3]).allSatisfy { abs($0 - $1) < 1e-12 })
  }

  @Test func gradientsAndFiltersLoad() throws {
    let merge = try parse(
      """
      models:
        - model: psmathur/orca_mini_v3_13b
          parameters: {density: [1, 0.7, 0.1], weight: 1.0}
        - model: garage-bAInd/Platypus2-13B
          parameters: {density: 0.5, weight: [0, 0.3, 0.7, 1]}
        - model: WizardLM/WizardMath-13B-V1.0
          parameters: {density: 0.33, weight: [{filter: mlp, value: 0.5}, {value: 0}]}
      merge_method: ties
      base_model: TheBloke/Llama-2-13B-fp16
      parameters: {normalize: true, int8_mask: true}
      dtype: float16
      """)
    let sources = merge.slices[0].sources
    func weight(_ source: Int, _ tensor: String, _ t: Double) throws -> Double {
      try merge.values(slice: 0, source: sources[source], tensor: tensor, t: t)["weight"]
    }
    #expect(try weight(2, layer, 0) == 0.5)
    #expect(try weight(2, "model.norm.weight", 0) == 0)
    #expect(try weight(1, "lm_head.weight", 0) == 0 && weight(1, layer, 1) == 1)
    #expect(merge.outputType == .f16)
  }

  @Test func slicesLoad() throws {
    let merge = try parse(
      """
      slices:
        - sources:
            - {model: psmathur/orca_mini_v3_13b, layer_range: [0, 40]}
            - {model: garage-bAInd/Platypus2-13B, layer_range: [0, 40]}
      merge_method: slerp
      base_model: psmathur/orca_mini_v3_13b
      parameters:
        t: [{filter: self_attn, value: [0, 0.5, 0.3, 0.7, 1]}, {filter: mlp, value: [1, 0.5, 0.7, 0.3, 0]}, {value: 0.5}]
      dtype: float16
      """)
    func t(_ tensor: String, _ depth: Double) throws -> Double {
      try merge.values(slice: 0, source: nil, tensor: tensor, t: depth)["t"]
    }
    #expect(try t("model.layers.1.self_attn.q_proj.weight", 1) == 1)
    #expect(try t(layer, 0) == 1 && t("lm_head.weight", 0) == 0.5)
    #expect(merge.slices[0].sources[0].layers == 0..<40)
    #expect(merge.operands(of: merge.slices[0])[0].reference == merge.base)
  }

  @Test func gradientsInterpolateOverDepth() throws {
    func over(_ values: [Double], _ layers: Int) throws -> [Double] {
      let text = "[" + values.map { "\($0)" }.joined(separator: ", ") + "]"
      let node = try ConfigNode.parse("a: \(text)", source: "t")
      let value = try #require(try ParameterValue(node.required("a"), .number))
      return try (0..<layers).map {
        try #require(value.evaluate(tensor: "x", t: Double($0) / Double(layers - 1)))
      }
    }
    func close(_ a: [Double], _ b: [Double]) -> Bool {
      a.count == b.count && zip(a, b).allSatisfy { abs($0 - $1) < 1e-6 }
    }
    #expect(close(try over([1, 0.7, 0.1], 5), [1, 0.85, 0.7, 0.4, 0.1]))
    #expect(close(try over([0, 0.3, 0.7, 1], 6), [0, 0.18, 0.38, 0.62, 0.82, 1]))
    #expect(close(try over([0, 0.5, 0.3, 0.7, 1], 4), [0, 0.433333333, 0.566666667, 1]))
  }

  @Test func theFirstMatchingFilterWinsAndNullFallsThrough() throws {
    let merge = try parse(
      """
      merge_method: task_arithmetic
      base_model: b
      models:
        - model: x
          parameters:
            weight:
              - {filter: up_proj, value: 1}
              - {filter: mlp, value: 2}
              - {filter: norm, value: null}
        - model: y
          parameters: {weight: {filter: mlp, value: 5}}
      parameters: {weight: [{filter: "*", value: 9}], lambda: 0.5}
      """)
    let sources = merge.slices[0].sources
    func weight(_ source: Int, _ tensor: String) throws -> Double {
      try merge.values(slice: 0, source: sources[source], tensor: tensor, t: 0)["weight"]
    }
    #expect(try weight(0, layer) == 1)
    #expect(try weight(0, "model.layers.0.mlp.down_proj.weight") == 2)
    #expect(try weight(0, "model.norm.weight") == 9)
    #expect(try weight(1, layer) == 5 && weight(1, "lm_head.weight") == 9)
    #expect(try merge.values(slice: 0, source: nil, tensor: layer, t: 0)["lambda"] == 0.5)
  }

  @Test func sourceComesBeforeSliceBeforeTopLevelBeforeDefault() throws {
    func density(_ source: String, _ slice: String, _ top: String) throws -> Double {
      let merge = try parse(
        """
        merge_method: ties
        base_model: b
        slices:
          - sources:
              - {model: x, layer_range: [0, 2], parameters: {weight: 1, \(source)}}
            parameters: {\(slice)}
        parameters: {\(top)}
        """)
      return try merge.values(
        slice: 0, source: merge.slices[0].sources[0], tensor: layer, t: 0)["density"]
    }
    #expect(try density("density: 0.1", "density: 0.2", "density: 0.3") == 0.1)
    #expect(try density("density: null", "density: 0.2", "density: 0.3") == 0.2)
    #expect(try density("", "", "density: 0.3") == 0.3)
    #expect(try density("", "", "") == 1)
  }

  @Test func theBaseAmongTheModelsIsNoOperand() throws {
    let merge = try parse(
      """
      merge_method: ties
      base_model: b
      models: [{model: b}, {model: x, parameters: {weight: 1}}]
      """)
    #expect(merge.operands(of: merge.slices[0]).map(\.reference.model) == ["x"])
  }

  @Test(arguments: [
    ("merge_method: ties\nbase_model: b\nmodels: [{model: x, wieght: 1}]", "'wieght'"),
    ("merge_method: ties\nbase_model: b\nmodels: [{model: x}]\nslices: []", "both"),
    ("merge_method: ties\nbase_model: b", "no models"),
    ("merge_method: tise\nbase_model: b\nmodels: [{model: x}]", "'tise'"),
    ("merge_method: ties\nmodels: [{model: x}]", "base_model"),
    (
      "merge_method: slerp\nbase_model: b\nmodels: [{model: b}, {model: x}, {model: y}]",
      "exactly 2"
    ),
    ("merge_method: slerp\nbase_model: b\nmodels: [{model: y}, {model: x}]", "one of the two"),
    ("merge_method: ties\nbase_model: b\nmodels: []", "at least one"),
    (
      "merge_method: linear\nslices: [{sources: [{model: x, layer_range: [0, 2]}, {model: y, layer_range: [0, 3]}]}]",
      "layer count"
    ),
    ("merge_method: linear\nslices: [{sources: [{model: x}]}]", "layer_range"),
    (
      "merge_method: linear\nslices: [{sources: [{model: x, layer_range: [0, 2]}], residual_weight: 0.5}]",
      "residual_weight"
    ),
    (
      "merge_method: ties\nslices: [{sources: [{model: x, layer_range: [0, 2]}], base_model: b}, {sources: [{model: x, layer_range: [0, 2]}]}]",
      "needs a base_model"
    ),
    ("merge_method: linear\nslices: [{sources: [{model: x, layer_range: [3, 3]}]}]", "forwards"),
    ("merge_method: linear\nmodels: [{model: x}]\ndtype: float8", "float8"),
    (
      "merge_method: linear\nmodels: [{model: x}]\nparameters: {normalize: [true, false]}",
      "gradient"
    ),
    ("merge_method: linear\nmodels: [{model: x}]\nparameters: {normalize: 3}", "true or false"),
    ("merge_method: linear\nmodels: [{model: x, parameters: {weight: heavy}}]", "number"),
    ("merge_method: linear\nmodels: [{model: x, parameters: {weight: []}}]", "at least one"),
    ("merge_method: linear\nmodels: [{model: x}]\ntokenizer: {sauce: union}", "sauce"),
    ("merge_method: linear\nmodules: {a: {}, b: {}}", "2 modules"),
  ]) func mistakesAreNamed(text: String, part: String) throws {
    let error = try refused(text)
    #expect(error.exitCode == .configuration)
    #expect((error.message + (error.hint ?? "")).contains(part), "\(error.message)")
  }

  @Test func aMissingWeightNamesTensorAndModel() throws {
    let merge = try parse("merge_method: linear\nmodels: [{model: x}]")
    let error = try #require(throws: Fault.self) {
      try merge.values(slice: 0, source: merge.slices[0].sources[0], tensor: layer, t: 0)
    }
    #expect(error.message.contains("weight") && error.message.contains(layer))
  }

  @Test func aConfigurationMadeInCodeEqualsTheWrittenOne() throws {
    let made = try MergeConfiguration(
      base: "b",
      branches: [.init(ModelReference(model: "b", adapter: "l"), weight: 0.5, density: 0.3)],
      method: "ties", lambda: 2, seed: 7, outputType: .bf16)
    let values = try made.values(
      slice: 0, source: made.slices[0].sources[0], tensor: layer, t: 0)
    #expect(values["weight"] == 0.5 && values["density"] == 0.3)
    #expect(try made.values(slice: 0, source: nil, tensor: layer, t: 0)["lambda"] == 2)
    #expect(throws: Fault.self) {
      try MergeConfiguration(base: "b", branches: [], method: "ties")
    }
    let unknown = try #require(throws: Fault.self) {
      try MergeConfiguration(base: "b", branches: [], method: "tys")
    }
    #expect(unknown.exitCode == .configuration)
  }
}
