import ArgumentParser
import Cluster
import Platform

/// Whose jobs and pictures a command means.
struct TenantOption: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp(
            "Whose jobs and pictures they are, where several share the cluster. Default: $KIRIE_TENANT, else the default "
                + "tenant.", valueName: "name"))
    var tenant: String?

    func validate() throws {
        if let tenant, let fault = Tenant.fault(in: tenant) { throw ValidationError("--tenant: \(fault).") }
    }

    /// That of the command line, or of the environment.
    ///
    /// - Throws: `ValidationError` where the environment names none.
    func named() throws -> Tenant {
        if let tenant = tenant.flatMap({ Tenant($0) }) { return tenant }
        guard let name = Environment["KIRIE_TENANT"], !name.isEmpty else { return .standard }
        guard let tenant = Tenant(name) else {
            throw ValidationError("KIRIE_TENANT: \(Tenant.fault(in: name) ?? "is no name").")
        }
        return tenant
    }
}
