// SPDX-License-Identifier: Apache-2.0

internal import PAFTBase
import PAFTFormats

/// One object of a tokenizer file while it is read: the JSON with the path that leads to it, so
/// that every error says where.
struct Component {
  let json: JSONObject
  /// "tokenizer.json: pre_tokenizer.pretokenizers[1]".
  let place: String

  init(_ json: JSON, _ place: String) throws(Fault) {
    guard let object = json.object else {
      throw Fault(.data, "\(place): found \(json.kind), expected an object")
    }
    self.json = object
    self.place = place
  }

  /// The `type` of a component.
  func type() throws(Fault) -> String { try string("type") }

  func unknown(_ what: String, known: [String]) throws(Fault) -> Never {
    let type = try type()
    throw Fault(
      .data, "\(place): \(what) \(quoted(type)) is not supported",
      hint: "supported: " + known.joined(separator: ", "))
  }

  // MARK: - Members; absent and null are the same

  func member(_ key: String) -> JSON? {
    guard let value = json[key], !value.isNull else { return nil }
    return value
  }

  func string(_ key: String) throws(Fault) -> String {
    guard let value = try optionalString(key) else { throw missing(key, "a string") }
    return value
  }

  func optionalString(_ key: String) throws(Fault) -> String? {
    guard let value = member(key) else { return nil }
    guard let string = value.string else { throw wrong(key, value, "a string") }
    return string
  }

  func bool(_ key: String, default fallback: Bool) throws(Fault) -> Bool {
    guard let value = member(key) else { return fallback }
    guard let bool = value.bool else { throw wrong(key, value, "true or false") }
    return bool
  }

  func int(_ key: String, default fallback: Int? = nil) throws(Fault) -> Int {
    guard let value = member(key) else {
      if let fallback { return fallback }
      throw missing(key, "an integer")
    }
    guard let int = value.int else { throw wrong(key, value, "an integer") }
    return int
  }

  func components(_ key: String) throws(Fault) -> [Component] {
    guard let value = member(key) else { throw missing(key, "an array") }
    guard let array = value.array else { throw wrong(key, value, "an array") }
    var result: [Component] = []
    for (i, element) in array.enumerated() {
      result.append(try Component(element, "\(place).\(key)[\(i)]"))
    }
    return result
  }

  func component(_ key: String) throws(Fault) -> Component? {
    guard let value = member(key) else { return nil }
    return try Component(value, "\(place).\(key)")
  }

  /// `{"String": …}` or `{"Regex": …}`, as Split and Replace spell it.
  func pattern(_ key: String = "pattern") throws(Fault) -> Pattern {
    if let plain = member(key)?.string { return try literal(plain) }
    guard let object = try component(key) else {
      throw missing(key, "{\"String\": …} or {\"Regex\": …}")
    }
    if let text = try object.optionalString("String") { return try literal(text) }
    if let regex = try object.optionalString("Regex") { return try Pattern(regex, file: place) }
    throw Fault(
      .data, "\(object.place): found keys \(list(object.json.keys)), expected String or Regex")
  }

  private func literal(_ text: String) throws(Fault) -> Pattern {
    guard !text.isEmpty else { throw Fault(.data, "\(place): an empty pattern") }
    return try Pattern(text, literal: true, file: place)
  }

  func missing(_ key: String, _ expected: String) -> Fault {
    Fault(.data, "\(place): no \(quoted(key)), expected \(expected)")
  }

  func wrong(_ key: String, _ value: JSON, _ expected: String) -> Fault {
    Fault(.data, "\(place).\(key): found \(value.kind), expected \(expected)")
  }
}

/// Names for a message, at most eight of them.
func list(_ names: [String]) -> String {
  if names.isEmpty { return "none" }
  let shown = names.prefix(8).map { quoted($0, limit: 40) }.joined(separator: ", ")
  return names.count > 8 ? shown + ", … (\(names.count))" : shown
}
