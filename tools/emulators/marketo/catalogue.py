"""The objects, their fields, types and lengths: one table for describe and for validation (marketo.md §3.2-§3.6).

Lengths are the recorded ones; where Adobe's pages say less, the smaller one stands behind a slash.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SYSTEM_FIELDS = ("createdAt", "updatedAt")

# name, type, length[/documented length]; `-` marks what cannot be written after (or at) creation.
OPPORTUNITY = """
    createdAt datetime -
    externalOpportunityId string 50 -
    marketoGUID string 36 -
    updatedAt datetime -
    amount currency
    closeDate date
    description string 2000
    expectedRevenue currency
    externalCompanyId string 50
    externalCreatedDate datetime
    externalSalesPersonId string 50
    fiscal string 255
    fiscalQuarter integer
    fiscalYear integer
    forecastCategoryName string 255
    isClosed boolean
    isWon boolean
    lastActivityDate date
    leadSource string 255
    name string 255
    nextStep string 255
    probability integer
    quantity float
    stage string 255
    type string 255
"""
ROLE = """
    createdAt datetime -
    marketoGUID string 36 -
    updatedAt datetime -
    externalCreatedDate datetime
    externalOpportunityId string 255/50
    isPrimary boolean
    leadId integer
    role string 255/50
"""
COMPANY = """
    createdAt datetime -
    externalCompanyId string 50 -
    id integer -
    updatedAt datetime -
    annualRevenue currency
    billingCity string 255
    billingCountry string 255
    billingPostalCode string 255
    billingState string 255
    billingStreet text
    company string 255
    companyNotes text
    externalSalesPersonId string 50
    industry string 255
    mainPhone string 255
    numberOfEmployees integer
    sicCode string 40
    site string 255
    website string 255
"""
SALES_PERSON = """
    id integer -
    createdAt datetime -
    updatedAt datetime -
    email string 255 -
    externalSalesPersonId string 255 -
    fax string 255
    firstName string 255
    lastName string 255
    mobilePhone string 255
    phone string 255
    title string 255
"""
LEAD = """
    id integer
    email email 255
    firstName string 255
    lastName string 255
    title string 255
    phone phone 255
    externalCompanyId string 50
    externalSalesPersonId string 50
    company string 255
    website url 255
    site string 255
    industry string 255
    mainPhone phone 255
    billingStreet text
    billingCity string 255
    billingState string 255
    billingPostalCode string 255
    billingCountry string 255
    annualRevenue currency
    numberOfEmployees integer
    sicCode string 40
    mktoCompanyNotes text
    leadSource string 255
    leadScore integer
    unsubscribed boolean
    createdAt datetime -
    updatedAt datetime -
"""


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    type: str
    length: int | None = None
    documented_length: int | None = None
    updateable: bool = True
    custom: bool = False


@dataclass(slots=True)
class ObjectType:
    """One kind of record: what describe shows of it, and what its queries may filter by."""

    name: str
    id_field: str
    dedupe_fields: tuple[str, ...]
    searchable: list[tuple[str, ...]]
    fields: dict[str, Field]
    default_fields: tuple[str, ...]
    permission: str
    by_lower_name: dict[str, Field] = field(init=False)

    def __post_init__(self) -> None:
        self.by_lower_name = {name.lower(): each for name, each in self.fields.items()}

    def field(self, name: str) -> Field | None:
        """Names match whatever their case (marketo.md §3.0)."""
        return self.fields.get(name) or self.by_lower_name.get(name.lower())

    def add(self, custom: Field) -> None:
        """A custom field; those of type string, e-mail or integer can be searched (marketo.md §3.2, §3.6)."""
        self.fields[custom.name] = self.by_lower_name[custom.name.lower()] = custom
        if custom.type in ("string", "email", "integer"):
            self.searchable.append((custom.name,))

    def immutable(self, name: str) -> bool:
        """Set by the service alone, whatever describe says of roles' keys."""
        return name == self.id_field or name in SYSTEM_FIELDS


def field_table(text: str) -> dict[str, Field]:
    return {line.split()[0]: field_line(line.split()) for line in text.strip().splitlines()}


def field_line(words: list[str]) -> Field:
    name, kind, *rest = words
    lengths = [int(each) for word in rest if word != "-" for each in word.split("/")]
    return Field(
        name,
        kind,
        length=lengths[0] if lengths else None,
        documented_length=lengths[-1] if lengths else None,
        updateable="-" not in rest,
    )


def catalogue() -> dict[str, ObjectType]:
    """A fresh copy by API name: each subscription may add fields of its own."""
    return {
        "opportunities": ObjectType(
            name="opportunity",
            id_field="marketoGUID",
            dedupe_fields=("externalOpportunityId",),
            searchable=[
                ("externalOpportunityId",),
                ("marketoGUID",),
                ("externalCompanyId",),
                ("externalSalesPersonId",),
            ],
            fields=field_table(OPPORTUNITY),
            default_fields=("updatedAt", "createdAt"),
            permission="Opportunity",
        ),
        "roles": ObjectType(
            name="opportunityRole",
            id_field="marketoGUID",
            dedupe_fields=("externalOpportunityId", "leadId", "role"),
            searchable=[
                ("externalOpportunityId", "leadId", "role"),
                ("marketoGUID",),
                ("externalOpportunityId",),
                ("leadId",),
            ],
            fields=field_table(ROLE),
            default_fields=("createdAt", "updatedAt"),
            permission="Opportunity",
        ),
        "companies": ObjectType(
            name="Company",
            id_field="id",
            dedupe_fields=("externalCompanyId",),
            searchable=[("externalCompanyId",), ("id",), ("externalSalesPersonId",), ("company",)],
            fields=field_table(COMPANY),
            default_fields=("updatedAt", "createdAt"),
            permission="Company",
        ),
        "salespersons": ObjectType(
            name="SalesPerson",
            id_field="id",
            dedupe_fields=("externalSalesPersonId",),
            searchable=[("email",), ("id",), ("externalSalesPersonId",)],
            fields=field_table(SALES_PERSON),
            default_fields=(),
            permission="Sales Person",
        ),
        "leads": ObjectType(
            name="API Lead",
            id_field="id",
            dedupe_fields=(),
            searchable=[("id",), ("email",), ("externalCompanyId",), ("externalSalesPersonId",)],
            fields=field_table(LEAD),
            default_fields=("email", "updatedAt", "createdAt", "firstName", "lastName"),
            permission="Lead",
        ),
    }
