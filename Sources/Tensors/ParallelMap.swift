extension ThreadPool {
    /// What `body` returns for every index below `count`, in order, computed on all threads of the pool.
    ///
    /// The rules for `body` are those of ``parallel(_:_:)``.
    public func map<Value>(_ count: Int, _ body: (Int) -> Value) -> [Value] {
        [Value](unsafeUninitializedCapacity: max(0, count)) { values, initialized in
            // Each call initialises the one place of its index, and all have when `parallel` returns.
            nonisolated(unsafe) let places = values
            parallel(count) { index in places.initializeElement(at: index, to: body(index)) }
            initialized = max(0, count)
        }
    }
}
