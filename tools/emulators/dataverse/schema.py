"""The tables of the emulated organization: columns with their types, choices with their labels (dataverse.md §6).

Written as small texts, one column a line: `name kind [length or lookup targets]`. Kinds:
string, memo, int, bigint, decimal, money, bool, date, datetime, guid, choice, multichoice, state, status, lookup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

ENGLISH, GERMAN = 1033, 1031

# The Web API's name for each kind of column, as EntityDefinitions shows it.
ATTRIBUTE_TYPES = {
    "string": "String",
    "memo": "Memo",
    "int": "Integer",
    "bigint": "BigInt",
    "decimal": "Decimal",
    "money": "Money",
    "bool": "Boolean",
    "date": "DateTime",
    "datetime": "DateTime",
    "guid": "Uniqueidentifier",
    "choice": "Picklist",
    "multichoice": "Virtual",
    "state": "State",
    "status": "Status",
    "lookup": "Lookup",
}
# What a caller may write; the platform keeps the rest itself.
OBJECT_TYPE_CODES = {
    "account": 1, "contact": 2, "opportunity": 3, "lead": 4, "systemuser": 8, "team": 9, "businessunit": 10,
    "incident": 112, "organization": 1019, "connectionrole": 3231, "connection": 3234, "transactioncurrency": 9105,
}  # fmt: skip
TABLES_BY_CODE = {code: name for name, code in OBJECT_TYPE_CODES.items()}


@dataclass(frozen=True, slots=True)
class Option:
    """One value of a choice; *state* only for status reasons, *labels* by language code."""

    value: int
    labels: Mapping[int, str]
    state: int | None = None

    @property
    def label(self) -> str:
        return self.labels[ENGLISH]


@dataclass(frozen=True, slots=True)
class Column:
    """One column; *wire* is its name in a Web API row (`_x_value` for a lookup)."""

    name: str
    kind: str
    length: int | None = None
    targets: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    custom: bool = False
    secured: bool = False
    wire: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "wire", f"_{self.name}_value" if self.kind == "lookup" else self.name)

    @property
    def attribute_type(self) -> str:
        special = {"customerid": "Customer", "parentcustomerid": "Customer", "ownerid": "Owner"}
        return special.get(self.name, ATTRIBUTE_TYPES[self.kind])

    def label(self, value: int) -> str | None:
        return next((option.label for option in self.options if option.value == value), None)

    def navigation(self, target: str) -> str | None:
        """The navigation property that leads to *target*; the shadow columns have none (dataverse.md §6.2)."""
        if self.name in SHADOWS:
            return None
        return f"{self.name}_{target}" if len(self.targets) > 1 and self.name != "ownerid" else self.name


SHADOWS = {"accountid", "contactid"}  # read-only, computed from customerid and parentcustomerid


@dataclass(slots=True)
class Table:
    """One table; *columns* by logical name, *wire* by the name in a row."""

    name: str
    set_name: str
    code: int
    key: str
    title: str
    owned: bool
    tracked: bool
    columns: dict[str, Column] = field(default_factory=dict)
    wire: dict[str, Column] = field(default_factory=dict)
    money: dict[str, str] = field(default_factory=dict)  # amount → the same in base currency
    custom: bool = False

    def add(self, column: Column) -> None:
        """Money brings a second column: the amount in the organization's base currency."""
        self.columns[column.name] = column
        self.wire[column.wire] = column
        if column.kind == "money" and not column.name.endswith("_base"):
            self.money[column.name] = f"{column.name}_base"
            self.add(Column(f"{column.name}_base", "money", custom=column.custom))

    def remove(self, name: str) -> None:
        column = self.columns.pop(name)
        del self.wire[column.wire]
        if base := self.money.pop(name, None):
            self.remove(base)

    def secure(self, name: str, secured: bool) -> None:
        column = replace(self.columns[name], secured=secured)
        self.columns[name] = self.wire[column.wire] = column

    def navigations(self) -> dict[str, tuple[Column, tuple[str, ...]]]:
        """Single-valued navigation property → its column and the tables it may lead to."""
        found: dict[str, tuple[Column, tuple[str, ...]]] = {}
        for column in self.columns.values():
            for target in column.targets:
                if name := column.navigation(target):
                    found[name] = (column, (*found.get(name, (column, ()))[1], target))
        return found


AUDIT = """
createdon datetime
modifiedon datetime
overriddencreatedon datetime
versionnumber bigint
importsequencenumber int
timezoneruleversionnumber int
utcconversiontimezonecode int
createdby lookup systemuser
modifiedby lookup systemuser
createdonbehalfby lookup systemuser
modifiedonbehalfby lookup systemuser
"""
OWNERSHIP = """
ownerid lookup systemuser team
owninguser lookup systemuser
owningteam lookup team
owningbusinessunit lookup businessunit
"""
MONEY = """
transactioncurrencyid lookup transactioncurrency
exchangerate decimal
"""
STATE = """
statecode state
statuscode status
"""
ADDRESS = """
address1_addressid guid
address1_name string 200
address1_line1 string 250
address1_line2 string 250
address1_line3 string 250
address1_city string 80
address1_stateorprovince string 50
address1_postalcode string 20
address1_country string 80
address1_composite memo 1000
"""
PERSON = """
firstname string 50
middlename string 50
lastname string 50
fullname string 160
yomifullname string 450
salutation string 100
jobtitle string 100
emailaddress1 string 100
emailaddress2 string 100
emailaddress3 string 100
telephone1 string 50
telephone2 string 50
telephone3 string 50
mobilephone string 50
fax string 50
websiteurl string 200
description memo 2000
"""
CONSENT = """
donotemail bool
donotbulkemail bool
donotbulkpostalmail bool
donotphone bool
donotfax bool
donotpostalmail bool
donotsendmm bool
followemail bool
participatesinworkflow bool
marketingonly bool
merged bool
"""
COMPANY_CODES = """
preferredcontactmethodcode choice
paymenttermscode choice
shippingmethodcode choice
territorycode choice
customersizecode choice
customertypecode choice
creditlimit money
creditonhold bool
lastusedincampaign datetime
processid guid
stageid guid
traversedpath string 1250
"""

OPPORTUNITY = """
opportunityid guid
name string 300
description memo 2000
customerid lookup account contact
accountid lookup account
contactid lookup contact
parentaccountid lookup account
parentcontactid lookup contact
originatingleadid lookup lead
campaignid lookup campaign
pricelevelid lookup pricelevel
slaid lookup sla
estimatedvalue money
actualvalue money
totalamount money
totalamountlessfreight money
totallineitemamount money
totallineitemdiscountamount money
totaldiscountamount money
totaltax money
budgetamount money
discountamount money
freightamount money
discountpercentage decimal
estimatedclosedate date
actualclosedate date
finaldecisiondate date
schedulefollowup_prospect datetime
schedulefollowup_qualify datetime
scheduleproposalmeeting datetime
closeprobability int
salesstage choice
salesstagecode choice
stepname string 200
stepid guid
stageid guid
processid guid
traversedpath string 1250
opportunityratingcode choice
prioritycode choice
pricingerrorcode choice
purchasetimeframe choice
purchaseprocess choice
budgetstatus choice
need choice
timeline choice
initialcommunication choice
isrevenuesystemcalculated bool
decisionmaker bool
confirminterest bool
evaluatefit bool
completeinternalreview bool
completefinalproposal bool
developproposal bool
presentproposal bool
presentfinalproposal bool
captureproposalfeedback bool
resolvefeedback bool
filedebrief bool
sendthankyounote bool
pursuitdecision bool
identifycompetitors bool
identifycustomercontacts bool
identifypursuitteam bool
participatesinworkflow bool
currentsituation memo 2000
customerneed memo 2000
customerpainpoints memo 2000
proposedsolution memo 2000
qualificationcomments memo 2000
quotecomments memo 2000
lastonholdtime datetime
onholdtime int
emailaddress string 100
"""
CONTACT = """
contactid guid
parentcustomerid lookup account contact
accountid lookup account
parentcontactid lookup contact
masterid lookup contact
originatingleadid lookup lead
accountrolecode choice
leadsourcecode choice
gendercode choice
familystatuscode choice
educationcode choice
haschildrencode choice
preferredappointmentdaycode choice
preferredappointmenttimecode choice
department string 100
nickname string 100
suffix string 10
governmentid string 50
employeeid string 50
managername string 100
assistantname string 100
birthdate date
anniversary date
annualincome money
isbackofficecustomer bool
externaluseridentifier string 50
"""
ACCOUNT = """
accountid guid
name string 160
accountnumber string 20
parentaccountid lookup account
primarycontactid lookup contact
masterid lookup account
originatingleadid lookup lead
websiteurl string 200
emailaddress1 string 100
emailaddress2 string 100
emailaddress3 string 100
telephone1 string 50
telephone2 string 50
fax string 50
description memo 2000
industrycode choice
ownershipcode choice
accountcategorycode choice
accountratingcode choice
accountclassificationcode choice
businesstypecode choice
preferredappointmentdaycode choice
preferredappointmenttimecode choice
revenue money
marketcap money
openrevenue money
numberofemployees int
sharesoutstanding int
opendeals int
sic string 20
tickersymbol string 10
stockexchange string 20
yominame string 160
"""
CONNECTION = """
connectionid guid
name string 500
record1id lookup account contact opportunity lead systemuser team incident
record2id lookup account contact opportunity lead systemuser team incident
record1objecttypecode choice
record2objecttypecode choice
record1roleid lookup connectionrole
record2roleid lookup connectionrole
relatedconnectionid lookup connection
ismaster bool
effectivestart datetime
effectiveend datetime
description memo 2000
entityimageid guid
"""
CONNECTIONROLE = """
connectionroleid guid
connectionroleidunique guid
name string 100
category choice
description memo 1000
componentstate choice
ismanaged bool
solutionid guid
introducedversion string 48
organizationid lookup organization
"""
SYSTEMUSER = """
systemuserid guid
fullname string 200
firstname string 64
middlename string 50
lastname string 64
title string 128
jobtitle string 100
nickname string 50
employeeid string 100
internalemailaddress string 100
personalemailaddress string 100
mobilephone string 64
homephone string 50
address1_telephone1 string 64
domainname string 1024
windowsliveid string 1024
isdisabled bool
disabledreason string 500
islicensed bool
issyncwithdirectory bool
isintegrationuser bool
setupuser bool
accessmode choice
applicationid guid
applicationiduri string 1024
azureactivedirectoryobjectid guid
businessunitid lookup businessunit
parentsystemuserid lookup systemuser
organizationid guid
"""
TEAM = """
teamid guid
name string 160
description memo 2000
emailaddress string 100
teamtype choice
isdefault bool
systemmanaged bool
azureactivedirectoryobjectid guid
administratorid lookup systemuser
businessunitid lookup businessunit
organizationid guid
"""
TRANSACTIONCURRENCY = """
transactioncurrencyid guid
isocurrencycode string 5
currencyname string 100
currencysymbol string 10
currencyprecision int
exchangerate decimal
organizationid lookup organization
"""
ORGANIZATION = """
organizationid guid
name string 160
basecurrencyid lookup transactioncurrency
basecurrencysymbol string 10
basecurrencyprecision int
expirechangetrackingindays int
localeid int
languagecode int
isauditenabled bool
createdon datetime
modifiedon datetime
versionnumber bigint
"""
LEAD = """
leadid guid
subject string 300
companyname string 100
leadsourcecode choice
leadqualitycode choice
prioritycode choice
industrycode choice
salesstagecode choice
purchasetimeframe choice
preferredcontactmethodcode choice
parentaccountid lookup account
parentcontactid lookup contact
qualifyingopportunityid lookup opportunity
customerid lookup account contact
masterid lookup lead
campaignid lookup campaign
budgetamount money
estimatedvalue decimal
estimatedamount money
revenue money
numberofemployees int
decisionmaker bool
evaluatefit bool
confirminterest bool
estimatedclosedate date
processid guid
stageid guid
"""
BUSINESSUNIT = """
businessunitid guid
name string 160
divisionname string 100
emailaddress string 100
websiteurl string 200
costcenter string 100
isdisabled bool
parentbusinessunitid lookup businessunit
organizationid guid
"""

SALES_RECORD = AUDIT + OWNERSHIP + MONEY + STATE

# table: set, key, primary name column, user-owned, change tracking on, columns
TABLES = {
    "opportunity": ("opportunities", "name", True, True, OPPORTUNITY + SALES_RECORD),
    "account": ("accounts", "name", True, True, ACCOUNT + ADDRESS + CONSENT + COMPANY_CODES + SALES_RECORD),
    "contact": (
        "contacts", "fullname", True, True,
        CONTACT + PERSON + ADDRESS + CONSENT + COMPANY_CODES + SALES_RECORD,
    ),
    "lead": ("leads", "fullname", True, True, LEAD + PERSON + ADDRESS + CONSENT + SALES_RECORD),
    "connection": ("connections", "name", True, True, CONNECTION + SALES_RECORD),
    "connectionrole": ("connectionroles", "name", False, True, CONNECTIONROLE + AUDIT + STATE),
    "systemuser": ("systemusers", "fullname", False, True, SYSTEMUSER + AUDIT + MONEY),
    "team": ("teams", "name", False, True, TEAM + AUDIT + MONEY),
    "transactioncurrency": ("transactioncurrencies", "currencyname", False, True, TRANSACTIONCURRENCY + AUDIT + STATE),
    "organization": ("organizations", "name", False, False, ORGANIZATION),
    "businessunit": ("businessunits", "name", False, False, BUSINESSUNIT + AUDIT),
}  # fmt: skip

ACTIVE_STATES = ((0, "Active", "Aktiv"), (1, "Inactive", "Inaktiv"))
ACTIVE_REASONS = ((1, "Active", "Aktiv", 0), (2, "Inactive", "Inaktiv", 1))
STATES = {
    "opportunity": ((0, "Open", "Offen"), (1, "Won", "Gewonnen"), (2, "Lost", "Verloren")),
    "lead": ((0, "Open", "Offen"), (1, "Qualified", "Qualifiziert"), (2, "Disqualified", "Disqualifiziert")),
}
REASONS = {
    "opportunity": (
        (1, "In Progress", "In Bearbeitung", 0),
        (2, "On Hold", "Zurückgestellt", 0),
        (3, "Won", "Gewonnen", 1),
        (4, "Canceled", "Abgebrochen", 2),
        (5, "Out-Sold", "Ausverkauft", 2),
    ),
    "lead": (
        (1, "New", "Neu", 0),
        (2, "Contacted", "Kontaktiert", 0),
        (3, "Qualified", "Qualifiziert", 1),
        (4, "Lost", "Verloren", 2),
        (5, "Cannot Contact", "Kontaktaufnahme nicht möglich", 2),
        (6, "No Longer Interested", "Kein Interesse mehr", 2),
        (7, "Canceled", "Abgebrochen", 2),
    ),
}

# Labels in order of value; a leading number says where counting starts.
CHOICES = {
    "opportunity.salesstage": "0|Qualify|Develop|Propose|Close",
    "opportunity.opportunityratingcode": "1|Hot|Warm|Cold",
    "opportunity.pricingerrorcode": "0|None|Detail Error|Missing Price Level",
    "purchaseprocess": "0|Individual|Committee|Unknown",
    "purchasetimeframe": "0|Immediate|This Quarter|Next Quarter|This Year|Unknown",
    "budgetstatus": "0|No Committed Budget|May Buy|Can Buy|Will Buy",
    "need": "0|Must have|Should have|Good to have|No need",
    "timeline": "0|Immediate|This Quarter|Next Quarter|This Year|Not known",
    "initialcommunication": "0|Contacted|Not Contacted",
    "contact.accountrolecode": "1|Decision Maker|Employee|Influencer",
    "contact.gendercode": "1|Male|Female",
    "contact.familystatuscode": "1|Single|Married|Divorced|Widowed",
    "preferredappointmentdaycode": "0|Sunday|Monday|Tuesday|Wednesday|Thursday|Friday|Saturday",
    "preferredappointmenttimecode": "1|Morning|Afternoon|Evening",
    "preferredcontactmethodcode": "1|Any|Email|Phone|Fax|Mail",
    "paymenttermscode": "1|Net 30|2% 10, Net 30|Net 45|Net 60",
    "account.customertypecode": (
        "1|Competitor|Consultant|Customer|Investor|Partner|Influencer|Press|Prospect|Reseller|Supplier|Vendor|Other"
    ),
    "ownershipcode": "1|Public|Private|Subsidiary|Other",
    "accountcategorycode": "1|Preferred Customer|Standard",
    "industrycode": (
        "1|Accounting|Agriculture and Non-petrol Natural Resource Extraction|Broadcasting Printing and Publishing"
        "|Brokers|Building Supply Retail|Business Services|Consulting|Consumer Services"
        "|Design, Direction and Creative Management|Distributors, Dispatchers and Processors"
        "|Doctor's Offices and Clinics|Durable Manufacturing|Eating and Drinking Places|Entertainment Retail"
        "|Equipment Rental and Leasing|Financial|Food and Tobacco Processing|Inbound Capital Intensive Processing"
        "|Inbound Repair and Services|Insurance|Legal Services|Non-Durable Merchandise Retail"
        "|Outbound Consumer Service|Petrochemical Extraction and Distribution|Service Retail|SIG Affiliations"
        "|Social Services|Special Outbound Trade Contractors|Specialty Realty|Transportation"
        "|Utility Creation and Distribution|Vehicle Retail|Wholesale"
    ),
    "lead.leadsourcecode": (
        "1|Advertisement|Employee Referral|External Referral|Partner|Public Relations|Seminar|Trade Show|Web"
        "|Word of Mouth|Other"
    ),
    "lead.leadqualitycode": "1|Hot|Warm|Cold",
    "connectionrole.componentstate": "0|Published|Unpublished|Deleted|Deleted Unpublished",
    "accessmode": "0|Read-Write|Administrative|Read|Support User|Non-interactive|Delegated Admin",
    "teamtype": "0|Owner|Access|Microsoft Entra ID Security Group|Microsoft Entra ID Office Group",
}
ROLE_CATEGORIES = {
    1: "Business", 2: "Family", 3: "Social", 4: "Sales", 5: "Other",
    1000: "Stakeholder", 1001: "Sales Team", 1002: "Service",
}  # fmt: skip
RECORD_TYPES = {1: "Account", 2: "Contact", 3: "Opportunity", 4: "Lead", 8: "User", 9: "Team", 112: "Case"}
YES_NO = (Option(1, {ENGLISH: "Yes", GERMAN: "Ja"}), Option(0, {ENGLISH: "No", GERMAN: "Nein"}))


def standard_tables() -> dict[str, Table]:
    """A fresh copy of every standard table, by logical name."""
    return {name: _table(name, *definition) for name, definition in TABLES.items()}


def new_table(name: str, *, title: str = "name") -> Table:
    """A table we know nothing about but its name: for rows of other people's data."""
    set_name = name[:-1] + "ies" if name.endswith("y") else name + "s"
    code = OBJECT_TYPE_CODES.get(name, 10_000)
    table = Table(name, set_name, code, f"{name}id", title, owned=True, tracked=False, custom=True)
    _add_columns(table, f"{name}id guid\n{title} string 300\n" + SALES_RECORD)
    return table


def _table(name: str, set_name: str, title: str, owned: bool, tracked: bool, text: str) -> Table:
    table = Table(name, set_name, OBJECT_TYPE_CODES[name], f"{name}id", title, owned, tracked)
    _add_columns(table, text)
    return table


def _add_columns(table: Table, text: str) -> None:
    for line in text.split("\n"):
        if line:
            _add(table, *line.split())


def _add(table: Table, name: str, kind: str, *rest: str) -> None:
    length = int(rest[0]) if rest and kind in {"string", "memo"} else None
    targets = rest if kind == "lookup" else ()
    table.add(Column(name, kind, length, targets, options_of(table.name, name, kind)))


def options_of(table: str, column: str, kind: str) -> tuple[Option, ...]:
    if kind == "state":
        return tuple(Option(v, {ENGLISH: e, GERMAN: g}) for v, e, g in STATES.get(table, ACTIVE_STATES))
    if kind == "status":
        reasons = REASONS.get(table, ACTIVE_REASONS)
        return tuple(Option(v, {ENGLISH: e, GERMAN: g}, state) for v, e, g, state in reasons)
    if kind == "choice":
        return english_options(_labels(table, column).items())
    return YES_NO if kind == "bool" else ()


def english_options(pairs: Iterable[tuple[int, str]]) -> tuple[Option, ...]:
    return tuple(Option(value, {ENGLISH: label}) for value, label in pairs)


def _labels(table: str, column: str) -> dict[int, str]:
    if column == "category":
        return ROLE_CATEGORIES
    if column.endswith("objecttypecode"):
        return RECORD_TYPES
    text = CHOICES.get(f"{table}.{column}") or CHOICES.get(column, "1|Default Value")
    first, *labels = text.split("|")
    return dict(enumerate(labels, int(first)))


# Lookups that the emulator follows when a row is deleted or merged (dataverse.md §6.9):
# child table, lookup, parent tables, what a delete does to the child, whether a merge re-points it.
RELATIONSHIPS = (
    ("opportunity", "customerid", ("account", "contact"), "cascade", True),
    ("opportunity", "parentaccountid", ("account",), "remove_link", True),
    ("opportunity", "parentcontactid", ("contact",), "remove_link", True),
    ("opportunity", "originatingleadid", ("lead",), "remove_link", True),
    ("contact", "parentcustomerid", ("account", "contact"), "cascade", True),
    ("contact", "masterid", ("contact",), "remove_link", False),
    ("account", "parentaccountid", ("account",), "remove_link", True),
    ("account", "primarycontactid", ("contact",), "remove_link", True),
    ("account", "masterid", ("account",), "remove_link", False),
    ("lead", "parentaccountid", ("account",), "remove_link", True),
    ("lead", "parentcontactid", ("contact",), "remove_link", True),
    ("connection", "record1id", (), "cascade", True),
    ("connection", "record2id", (), "cascade", True),
    ("connection", "record1roleid", ("connectionrole",), "remove_link", False),
    ("connection", "record2roleid", ("connectionrole",), "remove_link", False),
)
# Besides those, lookups a client asks by; an index is built at the first question.
INDEXED = {(child, f"_{column}_value") for child, column, *_ in RELATIONSHIPS} | {
    ("opportunity", "_ownerid_value"),
    ("opportunity", "_accountid_value"),
    ("opportunity", "_contactid_value"),
    ("contact", "_accountid_value"),
    ("contact", "_ownerid_value"),
    ("account", "_ownerid_value"),
}
