import JSON

// The examples of documentation comments on JSON, word for word.

func scannedPoint() -> [Double]? {
    let point = JSONScanner.read(Array("[500, 375.5]".utf8)) { $0.numbers(2) }
    return point
}
